package vault

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/seal"
	"github.com/kistvault/kist/secondary/client"
)

// SetDial changes Config.Dial. Nobody uses it.
func (v *Vault) SetDial(dial func(context.Context, client.Server, client.Identity) (client.Messenger, error)) {
	v.conf.Dial = dial
}

// SyncTelling is Sync that tells of every step where it is.
func SyncTelling(ctx context.Context, v *Vault, o SyncOptions, told func(Progress)) error {
	e := &engine{v: v, mode: o.Mode, full: o.Full}
	o.Step = func() { told(e.progress("")) }
	r := &runner{v: v, o: &o}
	err := r.attempt(ctx, e, v.connect)
	told(r.last)
	return err
}

// AlarmNames returns the kinds of alarms by name.
func AlarmNames() map[string]error {
	out := make(map[string]error)
	for _, k := range alarmKinds {
		out[k.name] = k.err
	}
	return out
}

// Reread returns an alarm as it is read from the store.
func Reread(a *Alarm) *Alarm {
	b, err := json.Marshal(a.json())
	if err == nil {
		a, err = parseAlarm(b)
	}
	if err != nil {
		panic(err)
	}
	return a
}

// Poison queues a change of a record as a program might that is faulty, or newer:
// blob gets the payload that Put would seal, and a function that seals.
func Poison(v *Vault, ns, name string, blob func(p *seal.Payload, seal func() []byte) []byte) error {
	return v.update(func(s *state) error {
		tag := v.keys.tag(ns)
		key := v.keys.recordKey(tag, name)
		e, err := s.record(key)
		if err != nil {
			return err
		}
		if e == nil {
			e = &entry{key: key, name: name}
		}
		refs, _, err := s.supersede(&txn{}, key, e)
		if err != nil {
			return err
		}
		epoch, err := s.epoch()
		if err != nil {
			return err
		}
		payload := &seal.Payload{Form: seal.FormInline, HLC: tick(v.conf.Now(), e.clock), Name: name, Value: []byte("poison")}
		t := &txn{}
		p := &pendingChange{epoch: epoch, key: key, op: commitlog.OpPut, refs: refs}
		if err := s.enqueue(t, e, p, payload); err != nil {
			return err
		}
		sealer, err := v.keys.sealer(tag, epoch)
		if err != nil {
			return err
		}
		weight := p.weight()
		p.blob = blob(payload, func() []byte {
			b, err := sealer.Seal(nil, payload)
			if err != nil {
				panic(err)
			}
			return b
		})
		return errors.Join(s.countPending(0, int64(p.weight())-int64(weight)), s.setPending(p), s.nameNamespace(tag, ns), s.setRecord(key, e))
	})
}

// Forget makes a vault hold a change as a program would that does not understand
// it, and that was the last to have the vault open.
func Forget(v *Vault, ns, name string, id commitlog.ChangeID) error {
	return v.update(func(s *state) error {
		key := v.keys.recordKey(v.keys.tag(ns), name)
		e, err := s.record(key)
		if err != nil {
			return err
		}
		if slices.Contains(e.live, id) {
			if err := s.quarantine.Put(changeKey(id), []byte("of a newer program")); err != nil {
				return err
			}
		}
		if err := s.setUnread(id, &opened{known: true, key: key, name: name}); err != nil {
			return err
		}
		if err := s.join(e); err != nil {
			return err
		}
		return errors.Join(s.setRecord(key, e), s.meta.Put(metaUnderstands, []byte{understands - 1}))
	})
}

// StandsIn is standsIn.
func StandsIn(v *Vault, ns, name string, id commitlog.ChangeID) (is bool, err error) {
	err = v.view(func(s *state) error {
		e, err := s.record(v.keys.recordKey(v.keys.tag(ns), name))
		if err == nil && e != nil {
			is, err = s.standsIn(e, id)
		}
		return err
	})
	return is, err
}
