package segment

// CRC-32C of a concatenation, from the sums of its parts. A CRC is the remainder of a polynomial division, so
// crc(A‖B) = crc(A)·x^(8·|B|) + crc(B) modulo the polynomial (initial and final inversion cancel out). Numbers are
// bit-reflected: bit 31 is x^0.

const polynomial = 0x82f63b78

// multiply gives a·b modulo the polynomial.
func multiply(a, b uint32) uint32 {
	var p uint32
	for m := uint32(1) << 31; m != 0; m >>= 1 {
		if a&m != 0 {
			p ^= b
		}
		// b *= x
		if b&1 != 0 {
			b = b>>1 ^ polynomial
		} else {
			b >>= 1
		}
	}
	return p
}

// shift gives x^(8n) modulo the polynomial: what a sum is multiplied by when n bytes follow.
func shift(n int64) uint32 {
	p, square := uint32(1)<<31, uint32(1)<<23 // x^0, x^8
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			p = multiply(p, square)
		}
		square = multiply(square, square)
	}
	return p
}

var blockShift = shift(BlockSize)

// combine gives the sum of A‖B from those of A and of B, which is n bytes long.
func combine(a, b uint32, n int64) uint32 {
	if n == BlockSize {
		return multiply(blockShift, a) ^ b
	}
	return multiply(shift(n), a) ^ b
}
