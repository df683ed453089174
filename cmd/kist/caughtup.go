package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/kistvault/kist/vault"
)

// alarmPause is how long kist run waits, at least, before it looks whether an alarm has
// passed.
const alarmPause = 10 * time.Minute

// caughtUp returns the alarm that stood if it has passed by itself, as its secondary has
// caught up; nil otherwise.
func caughtUp(ctx context.Context, v *vault.Vault, stood *vault.Alarm) (*vault.Alarm, error) {
	if stood == nil {
		return nil, nil
	}
	all, err := v.Alarms(ctx)
	for _, alarm := range all {
		if alarm.Time.Equal(stood.Time) && alarm.Name() == stood.Name() && alarm.CaughtUp {
			return alarm, err
		}
	}
	return nil, err
}

// sayCaughtUp tells the person, once, that an alarm has passed.
func (a *app) sayCaughtUp(alarm *vault.Alarm) {
	a.say("the secondary has caught up: it had gone back when it was looked at %s, and has all again that this device had seen. The sync goes on. If neither you nor who runs it has brought it in order, kist doctor --compare on your other devices; --evidence has what was seen", a.timeText(alarm.Time))
}

// keepInStep runs the vault's sync. An alarm ends that, and not the agent: what is
// here can be used, and the sync goes on when the person says so, or it has passed.
// Who looks for that again and again tells of it only where it has.
func (h *held) keepInStep(ctx context.Context, say func(*vault.Alarm)) error {
	for looking := false; ; looking = true {
		stood, err := h.v.Alarm(ctx)
		if err != nil {
			return err
		}
		quiet := looking && stood != nil
		err = h.v.Run(ctx, vault.SyncOptions{Progress: func(p vault.Progress) {
			if p.State == vault.StateLive && stood != nil {
				passed, err := caughtUp(ctx, h.v, stood)
				if passed != nil { // else a reset, or the person
					say(passed)
				}
				if passed != nil || err == nil { // else it is looked up at the next progress
					stood = nil
				}
				quiet = false
			}
			if quiet = quiet && (!p.End || p.State == vault.StateAlarm); !quiet {
				h.states.tell(p)
			}
		}})
		if !vault.IsAlarm(err) {
			return err
		}
		if err := h.alarmOver(ctx); err != nil {
			return err
		}
	}
}

// alarmOver waits until the person lets the sync go on, or it is time to look whether
// the alarm has passed.
func (h *held) alarmOver(ctx context.Context) error {
	alarm, err := h.v.Alarm(ctx)
	if err != nil {
		return err
	}
	var look <-chan time.Time
	if alarm == nil || alarm.MayPass() {
		timer := time.NewTimer(alarmPause + rand.N(alarmPause))
		defer timer.Stop()
		look = timer.C
	}
	select {
	case <-h.again:
	case <-look:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
