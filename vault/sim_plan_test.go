package vault

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// A simPlan is all that a simulation does, worked out from its seed before it
// begins: what happens never depends on what the program does, so any part of
// the events can be left out and the rest still means the same.
type simPlan struct {
	seed     uint64
	devices  []simDeviceConf
	names    int // records a namespace
	events   []simEvent
	restore  bool // at the end another device is restored
	together bool // at the end all connect at once, not one after the other
}

type simDeviceConf struct {
	skew     int64 // ms that its clock is off
	keepEach bool
	late     bool // it joins while the others are at work
}

// A simEvent is one thing that happens. One that makes no sense where it comes
// does nothing.
type simEvent struct {
	at   int64 // ms since the beginning
	kind simKind
	dev  int
	n    int // how many, or which variant
	ns   int
	ops  []simOp // of a transaction
	wish simWish
	by   int64 // ms
}

type simKind int

const (
	simWriteOne    simKind = iota // Put or Delete
	simUpdate                     // Update, of several records
	simStrategy                   // SetStrategy
	simSelect                     // SetSelection
	simTransaction                // Transact, or the end of its context
	simConnect                    // a session begins, if there is none, or in any case
	simWishes                     // a session is asked for something
	simUp                         // the secondary gets frames
	simServe                      // the secondary sends what it has
	simDown                       // the device gets frames
	simRest                       // all of a device's frames get through, until there are none
	simTwice                      // … one of them twice
	simCut                        // the connection breaks
	simLate                       // frames of a connection that the device has left arrive
	simCrash                      // the device will crash in one of its next steps
	simRestart                    // the secondary ends and starts
	simCrashLater                 // the secondary will crash when it next gets a frame
	simRefuse                     // the secondary will refuse a commit
	simClock                      // a device's clock jumps
	simPartition                  // a device is out of reach, or no longer so
	simLook                       // everything that a device shows is looked at
	simLose                       // a device is gone for ever
	simJoin                       // a new device takes its place
	simKinds
	simCompact // the secondary is stopped, compacted and started
	simRetain  // SetRetention
)

// A simOp is one write of a transaction.
type simOp struct {
	kind    simOpKind
	name    int
	size    int   // bytes of the value, at least
	expires int64 // ms from the device's now; 0: never
	later   int64 // ms from the device's now until it is available; 0: at once
}

type simOpKind int

const (
	simPut simOpKind = iota
	simDelete
	simCreate // if absent
	simSwap   // if at the revision that it is at
	simStale  // if at a revision that it is not at
	simOpKinds
)

var simStrategyList = []Strategy{StrategyTimestamp, StrategyFirst, StrategyLast, StrategyResolver}

var simNamespaces = []string{"contacts", "notes", "settings"}

// newSimPlan works out the plan of a seed: one in four is of full size, the others are small.
func newSimPlan(seed uint64) *simPlan {
	r := rand.New(rand.NewPCG(seed, 0x6b697374))
	p := &simPlan{seed: seed, names: 1 + r.IntN(5), restore: r.IntN(4) == 0, together: r.IntN(2) == 0}
	devices, each := 2+r.IntN(4), 4+r.IntN(25)
	if r.IntN(4) == 0 {
		devices, each = 7, 100
	}
	for i := range devices {
		c := simDeviceConf{skew: r.Int64N(10_000) - 5_000, keepEach: r.IntN(4) == 0, late: i > 0 && r.IntN(5) == 0}
		switch r.IntN(8) {
		case 0:
			c.skew = 3 * 365 * simDay
		case 1:
			c.skew = -2 * simDay
		}
		p.devices = append(p.devices, c)
	}

	// Each seed has a mix of its own, and each kind of trouble is missing from
	// some: so each is also alone with each other.
	weights := [simKinds]int{
		simWriteOne: 20 + r.IntN(400), simUpdate: 20 + r.IntN(200), simConnect: 50 + r.IntN(200),
		simUp: 200 + r.IntN(400), simServe: r.IntN(100), simDown: 200 + r.IntN(400), simRest: 15, simLook: 10,
	}
	storm := 1 + 9*(r.IntN(4)/3)
	for _, k := range []struct {
		kind simKind
		most int
	}{
		{simTwice, 3}, {simCut, 20}, {simLate, 20}, {simCrash, 10}, {simRestart, 4}, {simCrashLater, 6}, {simRefuse, 20},
		{simWishes, 30}, {simStrategy, 8}, {simSelect, 6}, {simTransaction, 100}, {simClock, 5}, {simPartition, 8}, {simLose, 1}, {simJoin, 10},
	} {
		if r.IntN(3) > 0 {
			weights[k.kind] = 1 + r.IntN(k.most)*storm
		}
	}
	sum := 0
	for _, w := range weights {
		sum += w
	}
	left := make([]int, devices)
	for i := range left {
		left[i] = each
	}
	at := int64(0)
	busy := r.IntN(devices) // a device has a run of events, mostly
	for writes := devices * each; writes > 0; {
		pick := r.IntN(sum)
		kind := simKind(0)
		for pick >= weights[kind] {
			pick -= weights[kind]
			kind++
		}
		if r.IntN(3) == 0 {
			busy = r.IntN(devices)
		}
		at += simPause(r)
		e := simEvent{at: at, kind: kind, dev: busy, n: r.IntN(4)}
		switch kind {
		case simWriteOne, simUpdate, simTransaction:
			if left[e.dev] == 0 {
				e.kind = simUp
				break
			}
			left[e.dev]--
			writes--
			e.ns = r.IntN(len(simNamespaces))
			n := 1
			if kind != simWriteOne {
				n = 1 + r.IntN(4)
			}
			for range n {
				e.ops = append(e.ops, newSimOp(r, p.names, kind == simWriteOne))
			}
		case simConnect:
			e.wish = simWish{
				mode: []Mode{TwoWay, TwoWay, PullOnly, PushOnly}[r.IntN(4)], live: r.IntN(3) > 0,
				full: r.IntN(8) == 0, quick: r.IntN(3) == 0,
			}
		case simUp, simDown, simServe:
			e.n = 1 + r.IntN(6)
		case simCrash:
			e.n, e.by = r.IntN(6)-2, r.Int64N(4)
		case simRefuse:
			e.n, e.by = r.IntN(len(simRefusals)), r.Int64N(4)
		case simSelect:
			e.n, e.ns = r.IntN(1<<len(simNamespaces)), r.IntN(2)
		case simStrategy:
			e.ns = r.IntN(len(simNamespaces))
		case simClock:
			e.by = r.Int64N(4*3_600_000) - 2*3_600_000
			if r.IntN(4) == 0 {
				e.by *= 1000
			}
		}
		p.events = append(p.events, e)
	}
	p.compactions()
	return p
}

const simDay = 24 * 3_600_000

// simPause is the time between two events: mostly next to nothing, sometimes hours.
func simPause(r *rand.Rand) int64 {
	switch k := r.IntN(300); {
	case k == 0:
		return r.Int64N(3_600_000)
	case k < 5:
		return r.Int64N(30_000)
	case k < 100:
		return 0
	}
	return r.Int64N(100)
}

func newSimOp(r *rand.Rand, names int, alone bool) simOp {
	o := simOp{name: r.IntN(names), size: r.IntN(200)}
	switch k := r.IntN(20); {
	case k < 11:
		o.kind = simPut
	case k < 15:
		o.kind = simDelete
	default:
		o.kind = simOpKind(k - 15 + int(simCreate))
		if o.kind >= simOpKinds {
			o.kind = simPut
		}
	}
	switch r.IntN(30) {
	case 0:
		o.size = 5_000
	case 1:
		if alone {
			o.size = 70_000 // an object
		}
	case 2, 3:
		o.expires = 1 + r.Int64N(2*3_600_000)
	case 4:
		o.later = 1 + r.Int64N(3_600_000)
	}
	return o
}

func (o simOp) String() string {
	s := fmt.Sprintf("%s %c", [...]string{"put", "delete", "create", "swap", "stale swap"}[o.kind], 'a'+o.name)
	if o.size >= 5_000 && o.kind != simDelete {
		s += fmt.Sprintf(" (%d bytes)", o.size)
	}
	if o.expires != 0 {
		s += fmt.Sprintf(" (expires in %d ms)", o.expires)
	}
	if o.later != 0 {
		s += fmt.Sprintf(" (from in %d ms on)", o.later)
	}
	return s
}

func (e *simEvent) String() string {
	s := ""
	switch e.kind {
	case simWriteOne, simUpdate, simTransaction:
		var ops []string
		for _, o := range e.ops {
			ops = append(ops, o.String())
		}
		s = fmt.Sprintf("writes to %s: %s", simNamespaces[e.ns], strings.Join(ops, ", "))
		if e.kind == simTransaction {
			s = [...]string{"leaves its transaction at the secondary, or ", "", "", ""}[e.n] + "begins one that " + s
		}
	case simStrategy:
		s = fmt.Sprintf("settles conflicts in %s by %v", simNamespaces[e.ns], simStrategyList[e.n])
	case simSelect:
		sel := newSimSelection(e)
		s = fmt.Sprintf("selects %q, and values up to %d bytes (none, 0: all)", sel.Namespaces, sel.Lazy)
	case simConnect:
		s = [...]string{"connects again, ", "connects, ", "connects, ", "connects, "}[e.n] + [...]string{"both ways", "pulling only", "pushing only"}[e.wish.mode]
		if e.wish.live {
			s += ", to stay"
		}
		if e.wish.full {
			s += ", from the beginning"
		}
		if e.wish.quick {
			s += ", uploading at once"
		}
	case simWishes:
		s = [...]string{" asks to be told when all has come", " wants the whole log", " looks whether the secondary is there"}[e.n%3]
	case simUp:
		s = fmt.Sprintf("'s next %d frames come to the secondary", e.n)
	case simServe:
		s = fmt.Sprintf(" is sent up to %d frames", e.n)
	case simDown:
		s = fmt.Sprintf(" gets its next %d frames", e.n)
	case simRest:
		s = "'s frames all get through"
	case simTwice:
		s = [...]string{"'s next frame comes to the secondary twice", " gets its next frame twice"}[e.n%2]
	case simCut:
		s = [...]string{"'s connection is cut", "'s connection is cut after its frames came to the secondary", "'s connection is cut after it got its frames", " leaves its connection, which does not know"}[e.n]
	case simLate:
		s = "'s frames on a connection that it has left come to the secondary"
	case simCrash:
		s = fmt.Sprintf(" will crash in its step %d from here, ", e.by+1)
		switch e.n {
		case -2:
			s += "after it and with what it sent"
		case -1:
			s += "after it"
		case 0:
			s += "before it"
		default:
			s += fmt.Sprintf("at its place %d", e.n)
		}
	case simRestart:
		return fmt.Sprintf("%9d ms: the secondary %s", e.at, [...]string{"is stopped and started", "is killed and started"}[e.n%2])
	case simCrashLater:
		return fmt.Sprintf("%9d ms: the secondary will crash with the next frame, %s", e.at, [...]string{"before it has stored anything", "before it has answered"}[e.n%2])
	case simRefuse:
		return fmt.Sprintf("%9d ms: the secondary will answer the commit %d from here with: %v", e.at, e.by+1, simRefusals[e.n].err)
	case simClock:
		s = fmt.Sprintf("'s clock jumps by %d ms", e.by)
	case simPartition:
		s = " is within reach"
		if e.n == 0 {
			s = " is out of reach"
		}
	case simLook:
		s = " is looked at"
	case simLose:
		s = " is lost"
	case simJoin:
		s = " joins"
	case simCompact:
		return fmt.Sprintf("%9d ms: the secondary is stopped, compacted and started", e.at)
	case simRetain:
		s = fmt.Sprintf(" keeps %+v", newSimRetention(e))
	}
	if s[0] != ' ' && s[0] != '\'' {
		s = " " + s
	}
	return fmt.Sprintf("%9d ms: device %d%s", e.at, e.dev, s)
}
