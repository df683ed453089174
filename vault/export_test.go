package vault

import (
	"context"
	"encoding/json"

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
