package vault_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kistvault/kist/vault"
)

// Devices with clocks of their own do at random what makes conflicts, settles them
// and changes how they are settled, over connections of which some break. In the
// end all show the same at any time, one that is restored then too, and nothing is
// left that a resolver has to answer.
func TestConflictsConverge(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			converge(t, rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

// quarrel is some devices that do not agree.
type quarrel struct {
	*testing.T
	rng     *rand.Rand
	devices []*vault.Vault
	clocks  []*manual
	narrow  []bool // devices that do not hold the second namespace
	broken  bool   // syncs may fail
}

var (
	quarrelStart = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	quarrelNames = []string{"a", "b", "c"}
	quarrelSpace = []string{"one", "two"}
)

func converge(t *testing.T, rng *rand.Rand) {
	p := newPerson(t)
	q := &quarrel{T: t, rng: rng, broken: rng.IntN(2) == 0}
	for range 2 + rng.IntN(3) {
		clock := &manual{q.time(1000)}
		v := p.device(vault.Config{Now: clock.now, NoSync: true, KeepEach: rng.IntN(4) == 0})
		if q.broken {
			v.SetDial(unreliable(rng.Uint64()).Dial)
		}
		for _, s := range quarrelSpace {
			v.SetResolver(s, q.resolve)
		}
		q.devices, q.clocks, q.narrow = append(q.devices, v), append(q.clocks, clock), append(q.narrow, false)
	}
	byHand(q.devices...)
	for step := range 60 {
		i := rng.IntN(len(q.devices))
		q.clocks[i].t = q.clocks[i].t.Add(time.Duration(rng.IntN(5)-1) * time.Second)
		q.act(i, step)
	}
	q.broken = false
	for _, v := range q.devices {
		v.SetDial(nil)
		choose(t, v, vault.Selection{})
	}
	q.agree(p)
	for round := range 5 {
		for i, v := range q.devices {
			q.clocks[i].t = quarrelStart.AddDate(0, 0, 10+round)
			resolve(t, v, q.clocks[i].t.Add(time.Hour))
			sync(t, v)
		}
	}
	q.agree(p)
	for _, s := range quarrelSpace {
		st, err := q.devices[0].Namespace(s).Strategy(t.Context())
		fatal(t, err)
		for c, err := range q.devices[0].Conflicts(t.Context()) {
			if fatal(t, err); st == vault.StrategyResolver && c.Namespace == s {
				t.Errorf("nobody answered %s/%s", s, c.Name)
			}
		}
	}
}

// time returns some time within minutes.
func (q *quarrel) time(minutes int) time.Time {
	return quarrelStart.Add(time.Duration(q.rng.IntN(minutes)) * time.Minute)
}

// resolve makes answers of all kinds.
func (q *quarrel) resolve(_ context.Context, c vault.Conflict) (vault.Resolution, error) {
	best := c.Versions[0]
	for _, r := range c.Versions {
		if string(r.Value) > string(best.Value) {
			best = r
		}
	}
	switch best.Value[0] % 4 {
	case 0:
		return vault.Resolution{Delete: true}, nil
	case 1:
		return vault.Resolution{Keep: best}, nil
	}
	return vault.Resolution{Value: append([]byte("answer "), best.Value[:1]...), Expires: best.Expires}, nil
}

// act has a device do something.
func (q *quarrel) act(i, step int) {
	q.Helper()
	v, ctx := q.devices[i], q.Context()
	n := v.Namespace(quarrelSpace[q.rng.IntN(2)])
	name := quarrelNames[q.rng.IntN(3)]
	value := fmt.Appendf(nil, "%c%d", 'a'+q.rng.IntN(26), step)
	var err error
	switch k := q.rng.IntN(20); k {
	default:
		var o []vault.Option
		if q.rng.IntN(4) == 0 {
			o = append(o, vault.Expires(q.time(2000)))
		}
		if q.rng.IntN(6) == 0 {
			o = append(o, vault.Available(q.time(2000)))
		}
		_, err = n.Put(ctx, name, value, o...)
	case 0, 1:
		if !q.narrow[i] {
			err = n.Delete(ctx, name)
		}
	case 2:
		err = n.SetStrategy(ctx, strategies[q.rng.IntN(len(strategies))])
	case 3:
		err = v.Update(ctx, n.Name(), func(tx *vault.Tx) error {
			for _, name := range quarrelNames[:2] {
				if _, err := tx.Put(name, value); err != nil {
					return err
				}
			}
			return nil
		})
	case 4:
		resolve(q, v, q.clocks[i].t.Add(time.Duration(q.rng.IntN(20))*time.Minute))
	case 5:
		_, _ = n.SettleBoth(ctx, name) // there may be nothing to settle
	case 6:
		_, _ = n.Undelete(ctx, name)
	case 7:
		if i > 0 {
			q.narrow[i] = !q.narrow[i]
			sel := vault.Selection{}
			if q.narrow[i] {
				sel = only("one")
			}
			choose(q, v, sel)
		}
	case 8:
		if !q.narrow[i] {
			err = v.Transact(ctx, n.Name(), func(tx *vault.Tx) error {
				_, err := tx.Put(name, value)
				return err
			})
		}
	case 9:
		_, err = v.Sync(ctx, vault.SyncOptions{Mode: vault.PullOnly})
	case 10, 11, 12, 13:
		_, err = v.Sync(ctx, vault.SyncOptions{})
	}
	if err != nil && !q.broken {
		q.Fatal(err)
	}
}

// agree brings all in step and compares what they show.
func (q *quarrel) agree(p *person) {
	q.Helper()
	sync(q, q.devices...)
	sync(q, q.devices...)
	for _, v := range q.devices[1:] {
		sameDigest(q, q.devices[0], v)
	}
	clock := &manual{quarrelStart}
	all := append(slices.Clone(q.devices), p.device(vault.Config{Now: clock.now, NoSync: true}))
	clocks := append(slices.Clone(q.clocks), clock)
	for _, at := range []time.Duration{0, 500, 1500, 5000} {
		var want map[string]string
		for i, v := range all {
			was := clocks[i].t
			clocks[i].t = quarrelStart.Add(at * time.Minute)
			got := q.shown(v)
			clocks[i].t = was
			if want == nil {
				want = got
			} else if !maps.Equal(got, want) {
				q.Errorf("after %d minutes, device %d shows\n%v\nwant\n%v", at, i, got, want)
			}
		}
	}
}

// shown returns what a device shows.
func (q *quarrel) shown(v *vault.Vault) map[string]string {
	out := make(map[string]string)
	for _, s := range quarrelSpace {
		st, err := v.Namespace(s).Strategy(q.Context())
		fatal(q, err)
		out[s] = st.String()
		for rec, err := range v.Namespace(s).List(q.Context()) {
			fatal(q, err)
			out[s+"/"+rec.Name] = fmt.Sprintf("%s of %d by %s at %v", rec.Value, rec.Siblings+1, rec.Device, rec.Commit)
		}
	}
	return out
}
