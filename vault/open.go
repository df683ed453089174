package vault

import (
	"bytes"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// opened is what is indexed of a change.
type opened struct {
	known              bool // the blob is here and opened: key and name are set
	understood         bool
	key                recordKey
	name               string
	clock              clock
	expires, available uint64
	about              []byte // value of a namespace's own record
	reason             string // why the change goes into quarantine
}

// openAll opens the blobs of commits. Most of a restore's time is spent here, so
// it uses all cores.
func (v *Vault) openAll(in []*incoming) {
	type job struct {
		in *incoming
		i  int
	}
	const chunk = 128
	var jobs []job
	for _, x := range in {
		if x.bundle.Commit.Header.Kind == commitlog.KindControl || x.opened != nil {
			continue
		}
		x.opened = make([]opened, len(x.bundle.Blobs))
		for i := 0; i < len(x.bundle.Blobs); i += chunk {
			jobs = append(jobs, job{x, i})
		}
	}
	run := func(n int) {
		j := jobs[n]
		var p seal.Payload
		var buf []byte
		h := &j.in.bundle.Commit.Header
		sealer, err := v.keys.sealer(h.Tag, h.Epoch)
		for i := j.i; i < min(j.i+chunk, len(j.in.opened)); i++ {
			if blob := j.in.bundle.Blobs[i]; blob != nil {
				if err != nil {
					j.in.opened[i].reason = err.Error()
					continue
				}
				buf = v.openOne(&j.in.opened[i], sealer, h.Tag, &j.in.bundle.Commit.Changes[i], blob, &p, buf)
			}
		}
	}
	onAllCores(len(jobs), run)
}

// openOne opens one blob into o. p and buf are scratch.
func (v *Vault) openOne(o *opened, sealer *seal.Key, tag keys.Tag, ch *commitlog.Change, blob []byte, p *seal.Payload, buf []byte) []byte {
	buf, err := sealer.OpenInto(p, buf, blob)
	if err != nil {
		o.reason = err.Error()
		return buf
	}
	o.known = true
	o.understood = p.Understood()
	o.name = p.Name
	o.key = v.keys.recordKey(tag, p.Name)
	o.expires, o.available = p.Expires, p.Available
	if p.HLC <= maxClock {
		o.clock = p.HLC
	}
	if !o.understood {
		o.reason = "written by a newer version"
	}
	switch {
	case (ch.Op == commitlog.OpDelete) != (p.Form == seal.FormDelete):
		o.understood, o.reason = false, "content and change do not agree"
	case (p.Object != nil) != ch.HasObject(), p.Object != nil && commitlog.Hash(p.Object.Hash) != ch.ObjectHash:
		o.understood, o.reason = false, "content and object do not agree"
	}
	if p.Name == aboutName && o.understood {
		o.about = bytes.Clone(p.Value)
	}
	return buf
}
