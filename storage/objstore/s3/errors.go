package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/smithy-go"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// ErrNoConditionalPut says that the server stores an object although If-None-Match: * forbids it, or knows no such condition. It
// cannot keep a log that more than one broker writes.
var ErrNoConditionalPut = errors.New("the server has no conditional PUT (If-None-Match: *)")

// ErrAccessDenied says that the credentials lack a permission. For Put and Delete it comes with [objstore.ErrReadOnly].
var ErrAccessDenied = errors.New("access denied")

// ErrNoBucket says that the bucket does not exist.
var ErrNoBucket = errors.New("there is no such bucket")

// Error is what a server answered, or why it did not.
type Error struct {
	// Op is put, get, head, list, delete or open; Key is the object's, empty if there is none or several.
	Op, Key string
	// Status and Code are HTTP's and S3's; 0 and empty if no answer came.
	Status int
	Code   string
	// RequestID is for the server's operators.
	RequestID string
	// Detail is the server's message, or the transport's.
	Detail string
	// Hint tells an operator what to do; may be empty.
	Hint string

	kinds []error // what errors.Is finds
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Key != "" {
		b.WriteString(" " + e.Key)
	}
	for _, kind := range e.kinds {
		b.WriteString(": " + kind.Error())
	}
	switch {
	case e.Code != "":
		fmt.Fprintf(&b, ": %s", e.Code)
	case e.Status != 0:
		fmt.Fprintf(&b, ": HTTP %d", e.Status)
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, " (request %s)", e.RequestID)
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap returns the sentinels it stands for.
func (e *Error) Unwrap() []error { return e.kinds }

// failure is an Error with what the loop around attempts needs to know.
type failure struct {
	err *Error

	again      bool          // another attempt may succeed
	doubtful   bool          // a put may have stored its object
	throttled  bool          // close the gate
	retryAfter time.Duration // at least
	reason     string        // one of Reasons; empty if the exchange did not fail
}

// Error implements error, so that an attempt can return a failure.
func (f *failure) Error() string { return f.err.Error() }

const maxDetail = 300

// clip shortens what a server says.
func clip(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxDetail {
		return strings.ToValidUTF8(s[:maxDetail], "") + "…"
	}
	return s
}

// kindsOf maps codes of S3, MinIO, versitygw and Ceph to the contract.
var kindsOf = map[string]error{
	"NoSuchKey":          objstore.ErrNotFound,
	"NotFound":           objstore.ErrNotFound,
	"PreconditionFailed": objstore.ErrExists,

	"InvalidRange": io.ErrUnexpectedEOF,

	"BadDigest":                     objstore.ErrChecksum,
	"InvalidDigest":                 objstore.ErrChecksum,
	"XAmzContentChecksumMismatch":   objstore.ErrChecksum,
	"XAmzContentSHA256Mismatch":     objstore.ErrChecksum,
	"XMinioInvalidObjectName":       objstore.ErrInvalidKey,
	"XMinioParentIsObject":          objstore.ErrInvalidKey,
	"XMinioObjectExistsAsDirectory": objstore.ErrInvalidKey,
	"ObjectParentIsFile":            objstore.ErrInvalidKey,
	"ExistingObjectIsDirectory":     objstore.ErrInvalidKey,
	"ObjectExistsAsDirectory":       objstore.ErrInvalidKey,
	"KeyTooLongError":               objstore.ErrInvalidKey,
	"InvalidURI":                    objstore.ErrInvalidKey,

	"XMinioStorageFull":              objstore.ErrNoSpace,
	"XMinioAdminBucketQuotaExceeded": objstore.ErrNoSpace,
	"QuotaExceeded":                  objstore.ErrNoSpace,
	"InsufficientStorage":            objstore.ErrNoSpace,

	"NoSuchBucket": ErrNoBucket,
}

// throttles are codes that ask to slow down, whatever their status.
var throttles = map[string]bool{
	"SlowDown": true, "SlowDownRead": true, "SlowDownWrite": true, "TooManyRequests": true, "RequestLimitExceeded": true,
	"Throttling": true, "ThrottlingException": true, "RequestThrottled": true, "BandwidthLimitExceeded": true,
	"TooManyRequestsException": true,
}

// unready are codes of a server that is still starting. MinIO sends Retry-After: 60 with them as with every 503; it takes
// requests a moment later.
var unready = map[string]bool{"XMinioServerNotInitialized": true}

// stale are codes of credentials or clocks that the SDK mends before the next attempt.
var stale = map[string]bool{
	"ExpiredToken": true, "ExpiredTokenException": true, "TokenRefreshRequired": true, "RequestExpired": true,
	"RequestTimeTooSkewed": true,
}

// classify says what an attempt's error means. It returns nil for nil.
func (s *Store) classify(a *attempt, key string, err error) *failure {
	if err == nil {
		return nil
	}
	f, ok := errors.AsType[*failure](err)
	if ok {
		f.err.Op, f.err.Key = a.op, key
		return f
	}
	f = &failure{err: &Error{Op: a.op, Key: key, Status: a.status}}
	if a.header != nil {
		f.err.RequestID = clip(a.header.Get("X-Amz-Request-Id"))
	}
	// A message that an SDK error wraps may be the end of the attempt's context, which must not look like the end of the
	// caller's: nothing of err is wrapped from here on.
	timedOut := a.timedOut()
	api, answered := errors.AsType[smithy.APIError](err)
	switch {
	case timedOut != nil:
		f.fail(ReasonTimeout, timedOut.Error())
	case errors.Is(context.Cause(a.ctx), errHedged):
		f.fail(ReasonCancelled, errHedged.Error())
	case errors.Is(a.transportErr, io.ErrUnexpectedEOF) && a.status != 0:
		f.fail(ReasonTruncated, "the answer ended early")
	case a.transportErr != nil:
		f.fail(ReasonConnection, a.transportErr.Error())
	case a.status >= http.StatusMultipleChoices:
		if !answered { // what stands before the server answers in HTML, or not at all
			api = &smithy.GenericAPIError{Message: err.Error()}
		}
		s.classifyAnswer(f, a, api)
	case !a.reached:
		f.fail(ReasonCredentials, err.Error())
		f.doubtful, f.again = false, s.opened.Load()
		f.err.Hint = "are there credentials, and a region? See AWS_ACCESS_KEY_ID, AWS_PROFILE, the instance's role"
	default:
		f.fail(ReasonAnswer, "the answer cannot be understood: "+err.Error())
	}
	return f
}

// fail makes f a fault of the exchange, after which a put is in doubt and another attempt may do.
func (f *failure) fail(reason, detail string) {
	f.reason, f.err.Detail, f.again, f.doubtful = reason, clip(detail), true, true
	f.err.kinds = []error{objstore.ErrUnavailable}
}

// classifyAnswer is for answers with a status and, except to HEAD, a code.
func (s *Store) classifyAnswer(f *failure, a *attempt, api smithy.APIError) {
	f.err.Code, f.err.Detail = clip(api.ErrorCode()), clip(api.ErrorMessage())
	f.retryAfter = retryAfter(a.header)
	kind := kindsOf[f.err.Code]
	switch {
	case unready[f.err.Code]:
		f.fail(ReasonServer, f.err.Detail)
	case throttles[f.err.Code] || f.err.Status == http.StatusTooManyRequests || (f.err.Status == http.StatusServiceUnavailable && f.retryAfter > 0):
		// "Slow down" comes before anything is done, but what stands before the server may say it, too.
		f.fail(ReasonThrottled, f.err.Detail)
		f.throttled = true
	case kind != nil:
		f.err.kinds = []error{kind}
		s.hint(f, a)
	case f.err.Status == http.StatusNotFound && (a.op == opGet || a.op == opHead):
		f.err.kinds = []error{objstore.ErrNotFound}
	case f.err.Status == http.StatusPreconditionFailed && a.op == opPut:
		f.err.kinds = []error{objstore.ErrExists}
	case f.err.Status == http.StatusRequestedRangeNotSatisfiable:
		f.err.kinds = []error{io.ErrUnexpectedEOF}
	case f.err.Status == http.StatusInsufficientStorage:
		f.err.kinds = []error{objstore.ErrNoSpace}
	case f.err.Status == http.StatusConflict:
		f.fail(ReasonConflict, f.err.Detail)
		f.doubtful = false
	case stale[f.err.Code]:
		f.fail(ReasonCredentials, f.err.Detail)
		f.doubtful = false
	case f.err.Code == "RequestTimeout": // the server waited for our body
		f.fail(ReasonTimeout, f.err.Detail)
	case f.err.Status == http.StatusForbidden || f.err.Status == http.StatusUnauthorized:
		s.denied(f, a)
	case f.err.Status == http.StatusNotImplemented:
		f.err.Hint = "the server lacks what StreamHouse needs"
	case f.err.Status >= http.StatusInternalServerError:
		f.fail(ReasonServer, f.err.Detail)
	default:
		s.hint(f, a)
	}
}

// hint tells what an operator can do about answers that no retry helps.
func (s *Store) hint(f *failure, a *attempt) {
	region := a.header.Get("X-Amz-Bucket-Region")
	switch {
	case f.err.Code == "NoSuchBucket":
		f.err.Hint = "create bucket " + s.opts.Bucket + " or correct the store's URL"
	case region != "" && region != s.opts.Region:
		f.err.Hint = "the bucket is in region " + clip(region) + ", not " + s.opts.Region
	case f.err.Code == "AuthorizationHeaderMalformed", f.err.Status == http.StatusMovedPermanently, f.err.Status == http.StatusTemporaryRedirect:
		f.err.Hint = "is " + s.opts.Region + " the bucket's region?"
	}
}

var actions = map[string]string{
	opPut: "s3:PutObject", opGet: "s3:GetObject", opHead: "s3:GetObject", opList: "s3:ListBucket", opDelete: "s3:DeleteObject",
}

// denied names the permission that is missing.
func (s *Store) denied(f *failure, a *attempt) {
	switch f.err.Code {
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidClientTokenId":
		f.err.Hint = "the credentials are wrong: check where they come from (AWS_ACCESS_KEY_ID, AWS_PROFILE, the role)"
		return
	}
	f.err.kinds = []error{ErrAccessDenied}
	if a.op == opPut || a.op == opDelete {
		f.err.kinds = append(f.err.kinds, objstore.ErrReadOnly)
	}
	bucket := "arn:aws:s3:::" + s.opts.Bucket
	object := bucket + "/" + s.prefix + "*"
	switch a.op {
	case opList:
		f.err.Hint = fmt.Sprintf("allow %s on %s", actions[a.op], bucket)
	case opGet, opHead:
		f.err.Hint = fmt.Sprintf("allow %s on %s, and s3:ListBucket on %s: without that an object that is not there looks like one that is forbidden",
			actions[a.op], object, bucket)
	default:
		f.err.Hint = fmt.Sprintf("allow %s on %s", actions[a.op], object)
	}
}

// retryAfter reads the header, in seconds or as a date.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if seconds, err := strconv.Atoi(v); err == nil {
		return time.Duration(min(max(seconds, 0), 3600)) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// misread is the failure of an answer that came whole but says something impossible.
func misread(format string, args ...any) error {
	f := &failure{err: &Error{}}
	f.fail(ReasonAnswer, fmt.Sprintf(format, args...))
	return f
}
