package vault_test

import (
	"fmt"
	"testing"

	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

func TestVerifyLogAndCheckAgreeWithAnHonestStore(t *testing.T) {
	vaults := vaulttest.NewSecondary(t).NewVault(t)
	laptop, phone := vaults.Device(t, "laptop", vault.Config{}), vaults.Device(t, "phone", vault.Config{KeepEach: true})
	unsent(t, laptop, phone)
	for i := range 600 { // more than are read ahead
		_, err := phone.Namespace("log").Put(t.Context(), fmt.Sprint(i%7), fmt.Append(nil, i))
		fatal(t, err)
		if i%2 == 0 {
			fatal(t, phone.Namespace("log").Delete(t.Context(), fmt.Sprint(i%5)))
		}
		if i%150 == 0 {
			vaulttest.Sync(t, phone)
		}
	}
	vaulttest.Sync(t, phone)
	for _, d := range []*vaulttest.Device{laptop, phone} {
		st, err := d.Status(t.Context())
		fatal(t, err)
		digest, _, err := d.Digest(t.Context())
		fatal(t, err)
		var last uint64
		c, err := d.Check(t.Context(), func(done, total uint64) { last = done })
		fatal(t, err)
		if c.Commits != st.Commits || c.Root != st.Root || c.Digest != digest || last != st.Commits || c.Pending != st.Pending || len(c.Spoilt) > 0 {
			t.Errorf("%s: checked %+v, status %+v", st.DeviceName, c, st)
		}
	}
}
