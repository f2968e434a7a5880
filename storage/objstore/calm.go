package objstore

// Calmer is a [Store] that knows when its backend asks for fewer requests. Stores that wrap another pass its word on.
type Calmer interface {
	// Calm tells whether the backend has not asked to slow down lately. It asks nobody and does not block.
	Calm() bool
}

// Calm tells whether store may be sent requests that only save time, such as a second one beside one that takes long. A
// store that does not know is calm.
func Calm(store Store) bool {
	c, ok := store.(Calmer)
	return !ok || c.Calm()
}
