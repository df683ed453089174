package admin_test

import (
	"strings"
	"testing"

	"github.com/kistvault/kist/secondary/admin"
)

// Who does not wait with one vault that is deleted leaves the others their time.
func TestRemoveOne(t *testing.T) {
	client, o := listen(t)
	ctx := t.Context()
	gone, waits := fill(t, o.Engine), fill(t, o.Engine)
	state := func(id, state string) {
		t.Helper()
		if _, err := client.SetState(ctx, admin.StateQuestion{Vault: id, State: state}); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(id string) int {
		t.Helper()
		r, err := client.Remove(ctx, admin.RemoveQuestion{Vault: id})
		if err != nil {
			t.Fatal(err)
		}
		return r.Vaults
	}
	state(gone.ID().String(), "deleted")
	state(waits.ID().String(), "deleted")
	if n := remove(""); n != 0 {
		t.Errorf("%d vaults went before their time", n)
	}
	if n := remove(gone.ID().String()); n != 1 {
		t.Errorf("%d vaults went, want 1", n)
	}
	if _, err := client.SetState(ctx, admin.StateQuestion{Vault: waits.ID().String(), State: "suspended"}); err == nil || !strings.Contains(err.Error(), "resume") {
		t.Errorf("a deleted vault is suspended: %v", err)
	}
	state(waits.ID().String(), "active")
	if _, err := client.Remove(ctx, admin.RemoveQuestion{Vault: waits.ID().String()}); err == nil {
		t.Error("one that is not deleted was removed")
	}
	state(waits.ID().String(), "suspended")
}
