package s3

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// notAnswers come with status 200 and are none.
var notAnswers = map[string]string{
	"error":     `<?xml version="1.0"?><Error><Code>InternalError</Code><Message>We encountered an error</Message></Error>`,
	"empty":     "",
	"garbage":   "\x00\x01garbage<<<",
	"HTML":      "<html><body>Please log in</body></html>",
	"cut short": `<?xml version="1.0"?><ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated><KeyCount>2</KeyCount><Contents><Key>a</Key>`,
	"miscounted": `<?xml version="1.0"?><ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated><KeyCount>2</KeyCount>` +
		`</ListBucketResult>`,
	"another prefix": `<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>x/y</Key><Size>1</Size>` +
		`</Contents></ListBucketResult>`,
	"endless emptiness": `<?xml version="1.0"?><ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>`,
	"too long":          `<?xml version="1.0"?><ListBucketResult><!--` + strings.Repeat("x", maxAnswerBytes) + `--><IsTruncated>false</IsTruncated></ListBucketResult>`,
}

// TestNotAListing: nothing but a whole listing is one. An empty answer would make a sweep believe that all is gone.
func TestNotAListing(t *testing.T) {
	for name, body := range notAnswers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, e := throughProxy(t, nil, func(p *proxy, kind string, n int, w http.ResponseWriter, r *http.Request) {
				if n == 1 && kind == "LIST" {
					answerText(w, http.StatusOK, body)
					return
				}
				p.pass(w, r)
			})
			require.NoError(t, s.Put(t.Context(), "a", objstore.NewBody([]byte("x"))))
			objects, more, err := s.List(t.Context(), "", "", 0)
			require.NoError(t, err)
			require.False(t, more)
			require.Len(t, objects, 1)
			require.Len(t, e.retried(), 1)
		})
	}
}

func TestListGivesUp(t *testing.T) {
	s, _ := throughProxy(t, func(o *Options) { o.RetryFor = 100 * time.Millisecond },
		func(_ *proxy, _ string, _ int, w http.ResponseWriter, _ *http.Request) {
			answerText(w, http.StatusOK, notAnswers["error"])
		})
	objects, more, err := s.List(t.Context(), "", "", 0)
	require.ErrorIs(t, err, objstore.ErrUnavailable)
	require.Nil(t, objects)
	require.False(t, more)
}

// TestOthersObjects: what others put under the prefix is neither shown nor in the way.
func TestOthersObjects(t *testing.T) {
	server := serverNamed(t, "minio")
	o := server.options()
	s := open(t, o)
	plain := plainClient(t.Context(), server.url)
	for _, key := range []string{"a b+ä&<", "log/.hidden", "log/<&>", "log/ü", "z z"} {
		_, err := plain.PutObject(t.Context(), &sdk.PutObjectInput{
			Bucket: aws.String(o.Bucket), Key: aws.String(o.Prefix + "/" + key), Body: strings.NewReader("x"),
		})
		require.NoError(t, err, key)
	}
	for _, key := range []string{"log/1", "log/2", "m"} {
		require.NoError(t, s.Put(t.Context(), key, objstore.NewBody(nil)))
	}
	var keys []string
	for after, more := "", true; more; {
		var page []objstore.Info
		var err error
		page, more, err = s.List(t.Context(), "", after, 1)
		require.NoError(t, err)
		for _, info := range page {
			keys = append(keys, info.Key)
			after = info.Key
		}
	}
	require.Equal(t, []string{"log/1", "log/2", "m"}, keys)
	requireStoresSeparate(t, server)
}

// requireStoresSeparate: a prefix that starts another is another store.
func requireStoresSeparate(t *testing.T, server *server) {
	t.Helper()
	o := server.options()
	first := open(t, o)
	o.Prefix += "0"
	second := open(t, o)
	require.NoError(t, second.Put(t.Context(), "theirs", objstore.NewBody(nil)))
	objects, _, err := first.List(t.Context(), "", "", 0)
	require.NoError(t, err)
	require.Empty(t, objects)
}

func TestStartAfter(t *testing.T) {
	for after, want := range map[string]string{
		"": "", "a/b": "a/b", "a/": "a/", "/": "-~", "..": "-~", "a//b": "a/-~", "a/.b": "a/-~", "a.": "a.",
		"\x00": "", "a\x00": "a", "a\xff": "az~", "a+": "a", "a:": "a9~", "a<b": "a9~", "~": "z~", "a/\xff": "a/z~", "a`": "a_~",
	} {
		require.Equal(t, want, startAfter(after), "%q", after)
	}
}

func TestNotADeletion(t *testing.T) {
	for name, body := range notAnswers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, e := throughProxy(t, nil, func(p *proxy, kind string, n int, w http.ResponseWriter, r *http.Request) {
				if n == 1 && kind == "DELETE" {
					answerText(w, http.StatusOK, body)
					return
				}
				p.pass(w, r)
			})
			require.NoError(t, s.Put(t.Context(), "a", objstore.NewBody([]byte("x"))))
			require.NoError(t, s.Delete(t.Context(), []string{"a", "b"}))
			_, err := s.Head(t.Context(), "a")
			require.ErrorIs(t, err, objstore.ErrNotFound)
			require.Len(t, e.retried(), 1)
		})
	}
}

// TestPartialDelete: keys are gone, refused for good, and refused for now.
func TestPartialDelete(t *testing.T) {
	asked := make(chan string, 10)
	s, _ := throughProxy(t, nil, func(p *proxy, kind string, n int, w http.ResponseWriter, r *http.Request) {
		if kind != "DELETE" {
			p.pass(w, r)
			return
		}
		body, _ := io.ReadAll(r.Body)
		asked <- string(body)
		_, prefix, _ := strings.Cut(string(body), "<Key>")
		prefix, _, _ = strings.Cut(prefix, "/")
		answer := `<?xml version="1.0"?><DeleteResult>`
		if n == 1 {
			answer += fmt.Sprintf(`<Deleted><Key>%[1]s/a</Key></Deleted>
				<Error><Key>%[1]s/b</Key><Code>AccessDenied</Code><Message>no</Message></Error>
				<Error><Key>%[1]s/c</Key><Code>InternalError</Code><Message>later</Message></Error>
				<Error><Key>%[1]s/d</Key><Code>NoSuchKey</Code><Message>gone</Message></Error>`, prefix)
		} else {
			answer += fmt.Sprintf(`<Deleted><Key>%s/c</Key></Deleted>`, prefix)
		}
		answerText(w, http.StatusOK, answer+`</DeleteResult>`)
	})
	err := s.Delete(t.Context(), []string{"a", "b", "c", "d", "a"})
	var partial *objstore.DeleteError
	require.ErrorAs(t, err, &partial)
	require.Equal(t, []string{"b"}, partial.Left)
	require.ErrorIs(t, err, ErrAccessDenied)
	require.ErrorContains(t, err, "s3:DeleteObject")
	require.Equal(t, 4, strings.Count(<-asked, "<Key>"))
	require.Equal(t, 1, strings.Count(<-asked, "<Key>"))
	require.Empty(t, asked)
}

func TestDeleteGivesUp(t *testing.T) {
	s, _ := throughProxy(t, func(o *Options) { o.RetryFor = 100 * time.Millisecond },
		func(_ *proxy, _ string, _ int, w http.ResponseWriter, _ *http.Request) {
			answerText(w, http.StatusOK, `<?xml version="1.0"?><DeleteResult></DeleteResult>`)
		})
	keys := make([]string, maxDelete+1)
	for i := range keys {
		keys[i] = fmt.Sprintf("k%04d", i)
	}
	var partial *objstore.DeleteError
	require.ErrorAs(t, s.Delete(t.Context(), keys), &partial)
	require.Equal(t, keys, partial.Left)
	require.ErrorIs(t, partial, objstore.ErrUnavailable)
}
