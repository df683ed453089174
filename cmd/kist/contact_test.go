package main

import (
	"testing"
	"time"

	"github.com/kistvault/kist/vault"
)

func TestAgoText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "just now", -time.Second: "just now", 59 * time.Second: "just now", -time.Hour: "in the future, by this device's clock",
		time.Minute: "1 minute ago", 59*time.Minute + 59*time.Second: "59 minutes ago", time.Hour: "1 hour ago",
		47 * time.Hour: "47 hours ago", 48 * time.Hour: "2 days ago", 400 * 24 * time.Hour: "400 days ago",
	} {
		if got := agoText(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestWithContact(t *testing.T) {
	now := time.Now()
	st := &vault.Status{Secondary: "wss://example.org/", Enrolled: true, Commits: 4}
	if got := withContact(stateText(st), st, now); got != "in step at commit 4" {
		t.Errorf("not known: %q", got)
	}
	st.InStep = now.Add(-3 * time.Minute)
	if got := withContact(stateText(st), st, now); got != "in step at commit 4, 3 minutes ago" {
		t.Errorf("in step: %q", got)
	}
	st.Pending = 2
	if got := withContact(stateText(st), st, now); got != "2 changes to send, at commit 4; in step 3 minutes ago" {
		t.Errorf("unsent: %q", got)
	}
	st.Secondary = ""
	if got := withContact(stateText(st), st, now); got != "everything is on this device, and nowhere else" {
		t.Errorf("alone: %q", got)
	}
}
