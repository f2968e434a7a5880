package s3

import (
	"context"
	"testing"

	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/objstoretest"
)

func TestConformance(t *testing.T) {
	forEachServer(t, func(t *testing.T, s *server) {
		t.Helper()
		objstoretest.Run(t, func() objstore.Store {
			store, err := Open(context.Background(), s.options())
			if err != nil {
				t.Fatal(err)
			}
			return store
		})
	})
}
