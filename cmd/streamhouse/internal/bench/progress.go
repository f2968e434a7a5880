package bench

import (
	"fmt"
	"time"

	"github.com/schollz/progressbar/v3"
)

const progressInterval = 250 * time.Millisecond

// startProgress shows how far a test is, until the function it returns is called. Without a total it shows time
// against Duration. It looks at done four times a second; the test itself does nothing for it.
func startProgress(o *Options, what string, done func() int64, total int64) (stop func()) {
	if o.Progress == nil {
		return func() {}
	}
	byTime := total == 0
	end := total
	if byTime {
		end = int64((o.WarmUp + o.Duration) / time.Millisecond)
	}
	bar := progressbar.NewOptions64(max(end, 1),
		progressbar.OptionSetWriter(o.Progress),
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWidth(30),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionClearOnFinish(),
	)
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		start, last, lastAt := time.Now(), int64(0), time.Now()
		for {
			select {
			case <-quit:
				_ = bar.Finish() // a terminal that went away is not the test's failure
				return
			case now := <-tick.C:
				n := done()
				bar.Describe(fmt.Sprintf("%s: %d records, %.0f records/s",
					what, n, float64(n-last)/now.Sub(lastAt).Seconds()))
				last, lastAt = n, now
				at := n
				if byTime {
					at = time.Since(start).Milliseconds()
				}
				_ = bar.Set64(min(at, max(end, 1)-1))
			}
		}
	}()
	return func() {
		close(quit)
		<-gone
	}
}
