package chaos_test

import "time"

func networkFaults() []fault {
	return []fault{
		{name: "cut-catalog", run: cutCatalog},
		{name: "forget-catalog", run: forgetCatalog},
		{name: "cut-store", run: cutStore},
		{name: "cut-clients", run: cutClients},
		{name: "break-connections", run: breakConnections},
		{name: "slow-network", run: slowNetwork},
	}
}

// link is what a broker's proxies have in common.
type link interface {
	Silence()
	Reset()
	Heal()
}

// cut cuts one connection for a time, silently or with resets. Long enough, it
// costs a broker its session.
func (r *round) cut(l link) {
	if r.random.IntN(2) == 0 {
		r.note("silent")
		l.Silence()
	} else {
		r.note("reset")
		l.Reset()
	}
	r.hold(time.Second, 8*time.Second, 20*time.Second)
	l.Heal()
}

// cutCatalog cuts a broker from Postgres.
func cutCatalog(r *round) error {
	b, err := r.any()
	if err != nil {
		return err
	}
	r.note("broker %d", b.ID)
	r.cut(b.Postgres)
	return nil
}

// forgetCatalog has Postgres find a broker's connections reset, of which the
// broker sees nothing: others take over long before its session ends.
func forgetCatalog(r *round) error {
	b, err := r.any()
	if err != nil {
		return err
	}
	r.note("broker %d", b.ID)
	b.Postgres.Forget()
	r.hold(time.Second, 8*time.Second, 20*time.Second)
	b.Postgres.Heal()
	return nil
}

// cutStore cuts a broker from MinIO.
func cutStore(r *round) error {
	b, err := r.any()
	if err != nil {
		return err
	}
	r.note("broker %d", b.ID)
	r.cut(b.Store)
	return nil
}

// cutClients cuts all clients from a broker.
func cutClients(r *round) error {
	b, err := r.any()
	if err != nil {
		return err
	}
	r.note("broker %d", b.ID)
	r.cut(b.Clients)
	return nil
}

// breakConnections resets every connection there is, and lets new ones be made.
func breakConnections(r *round) error {
	for _, b := range r.Brokers {
		for _, l := range []interface{ Break() }{b.Clients, b.Postgres, b.Store} {
			l.Break()
		}
	}
	return nil
}

// slowNetwork holds back what one broker sends and gets, everywhere.
func slowNetwork(r *round) error {
	b, err := r.any()
	if err != nil {
		return err
	}
	by := time.Duration(20+r.random.IntN(180)) * time.Millisecond
	r.note("broker %d by %s", b.ID, by)
	for _, l := range []interface{ Delay(time.Duration) }{b.Clients, b.Postgres, b.Store} {
		l.Delay(by)
	}
	r.hold(2*time.Second, 4*time.Second, 15*time.Second)
	return nil
}
