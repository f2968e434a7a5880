package chaos_test

import (
	"errors"
	"time"
)

func storeFaults() []fault {
	return []fault{
		{name: "restart-minio", run: restartMinIO},
		{name: "minio-503", run: refuseRequests},
		{name: "late-puts", run: latePuts},
		{name: "slow-bodies", run: slowBodies},
		{name: "truncated-bodies", run: truncatedBodies},
		{name: "disk-full", run: diskFull},
	}
}

// restartMinIO stops or kills MinIO and starts it again.
func restartMinIO(r *round) error {
	end, how := r.MinIO.Stop, "stopped"
	if r.random.IntN(2) == 0 {
		end, how = r.MinIO.Kill, "killed"
	}
	r.note("%s", how)
	if err := end(); err != nil {
		return err
	}
	r.hold(0, 2*time.Second, 10*time.Second)
	return r.MinIO.Up(r.ctx)
}

// spoilt checks that a fault of the store's proxy happened.
func (r *round) spoilt(before int64) error {
	n := r.Store.Spoiled() - before
	r.note("%d requests", n)
	if n == 0 {
		return errors.New("no request was spoiled: the fault did not happen")
	}
	return nil
}

// refuseRequests answers all requests, or half of them, with 503 SlowDown.
func refuseRequests(r *round) error {
	before := r.Store.Spoiled()
	share := []float64{0.5, 1}[r.random.IntN(2)]
	r.note("%.0f %%", share*100)
	r.Store.Refuse(share)
	d := 3 * time.Second
	if r.full {
		d = 30 * time.Second
	}
	r.wait(d)
	r.Store.Heal()
	return r.spoilt(before)
}

// latePuts hangs up on PUTs that succeed all the same: at once, while the client
// tries again, or when it has long given up.
func latePuts(r *round) error {
	before := r.Store.Spoiled()
	r.Store.LatePuts(0.5, 0, 300*time.Millisecond, 3*time.Second)
	r.hold(2*time.Second, 4*time.Second, 15*time.Second)
	r.Store.Heal()
	return r.spoilt(before)
}

// slowBodies lets bodies trickle.
func slowBodies(r *round) error {
	before := r.Store.Spoiled()
	pace := 4<<10 + r.random.IntN(60<<10)
	r.note("%d bytes/s", pace)
	r.Store.Slow(pace)
	r.hold(2*time.Second, 4*time.Second, 15*time.Second)
	r.Store.Heal()
	return r.spoilt(before)
}

// truncatedBodies ends half of the answers early, while somebody reads all there
// is: tail readers need no GET.
func truncatedBodies(r *round) error {
	before := r.Store.Spoiled()
	r.Store.Truncate(0.5)
	cl := r.load.Reader(r.t, r.Stack)
	defer cl.Close()
	observer := r.load.Again("reader of truncated bodies")
	deadline := time.Now().Add(4 * time.Second)
	for time.Now().Before(deadline) {
		r.poll(cl, observer)
	}
	r.Store.Heal()
	return r.spoilt(before)
}

// diskFull fills MinIO's disk.
func diskFull(r *round) error {
	if err := r.MinIO.Fill(); err != nil {
		return err
	}
	r.hold(2*time.Second, 4*time.Second, 15*time.Second)
	return r.MinIO.Free()
}
