package postgres

import "time"

// remindEvery is how often an outage that goes on is logged.
const remindEvery = 30 * time.Second

// outage is the time in which the catalog cannot be reached, as pulses find it: one line when it begins, one when it is over,
// and one every remindEvery in between. It is used by one goroutine.
type outage struct {
	since time.Time // zero: there is none
	said  time.Time
}

// failed notes a failure, and tells whether to say so.
func (o *outage) failed(now time.Time) (say bool) {
	if o.since.IsZero() {
		o.since = now
	} else if now.Sub(o.said) < remindEvery {
		return false
	}
	o.said = now
	return true
}

// ended notes a success, and tells whether it was the end of an outage, and how long that lasted.
func (o *outage) ended(now time.Time) (lasted time.Duration, ended bool) {
	if o.since.IsZero() {
		return 0, false
	}
	lasted = now.Sub(o.since)
	*o = outage{}
	return lasted, true
}
