package objstore

import (
	"fmt"
	"strings"
)

// ValidateKey returns an error wrapping [ErrInvalidKey] unless key can be stored by every backend: 1 to [MaxKeyBytes]
// bytes; slash-separated segments of 1 to [MaxSegmentBytes] bytes of A-Z a-z 0-9 . _ = -; no segment starts with a
// dot (which leaves out "." and "..", and names a backend may use for itself).
//
// Two more rules cannot be seen in one key. A key must not be another key followed by a slash and more (a folder
// cannot also be a file): a store may refuse the second of them with ErrInvalidKey. And keys must not differ by the
// case of letters alone.
func ValidateKey(key string) error {
	if key == "" {
		return fmt.Errorf("%w: it is empty", ErrInvalidKey)
	}
	if len(key) > MaxKeyBytes {
		return fmt.Errorf("%w: %d bytes long, at most %d are allowed", ErrInvalidKey, len(key), MaxKeyBytes)
	}
	for segment := range strings.SplitSeq(key, "/") {
		if err := validateSegment(segment); err != nil {
			return fmt.Errorf("%w: %q: %w", ErrInvalidKey, key, err)
		}
	}
	return nil
}

type segmentError string

func (e segmentError) Error() string { return string(e) }

func validateSegment(s string) error {
	switch {
	case s == "":
		return segmentError("a part between slashes is empty")
	case len(s) > MaxSegmentBytes:
		return segmentError("a part between slashes is too long")
	case s[0] == '.':
		return segmentError("a part between slashes starts with a dot")
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '=', c == '-':
		default:
			return segmentError("it has a character other than A-Z a-z 0-9 . _ = - /")
		}
	}
	return nil
}

// ValidateKeys returns the first error of ValidateKey.
func ValidateKeys(keys []string) error {
	for _, key := range keys {
		if err := ValidateKey(key); err != nil {
			return err
		}
	}
	return nil
}

// ValidateBody returns an error wrapping [ErrInvalidBody] if the size is not the sum of the slices or above
// [MaxObjectBytes]. It does not look at the checksum.
func ValidateBody(body Body) error {
	var sum int64
	for _, s := range body.Slices {
		sum += int64(len(s))
	}
	if sum != body.Size {
		return fmt.Errorf("%w: size says %d bytes, slices hold %d", ErrInvalidBody, body.Size, sum)
	}
	if sum > MaxObjectBytes {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrInvalidBody, sum, int64(MaxObjectBytes))
	}
	return nil
}
