package vault

import "github.com/kistvault/kist/keys/seal"

// newSimSelection returns what an event selects.
func newSimSelection(e *simEvent) (sel Selection) {
	for i, namespace := range simNamespaces {
		if e.n&(1<<i) != 0 {
			sel.Namespaces = append(sel.Namespaces, namespace)
		}
	}
	sel.Lazy = int64(e.ns * seal.MaxInline)
	return sel
}

// choose changes what a device keeps.
func (d *simDevice) choose(sel Selection) {
	if d.v == nil {
		return
	}
	survived := d.step(func() error { return d.v.SetSelection(d.w.ctx, sel) })
	if survived || !d.imaged {
		for _, n := range simNamespaces {
			if d.widening = d.widening || sel.Keeps(n) && !d.selected.Keeps(n); !sel.Keeps(n) {
				for r := range d.revisions {
					if r.namespace == n {
						delete(d.revisions, r)
					}
				}
			}
		}
		d.identity.chose = d.identity.chose || !sel.All()
		d.selected, d.sweeping = sel, true
	}
	if d.link != nil {
		d.link.pump(nil)
	}
}

// shows reports whether a device shows of a namespace what there is in as much of
// the log as it has. The simulation lets it write to no other: what it knows when
// it does is another matter.
func (d *simDevice) shows(namespace string) bool {
	return d.selected.Keeps(namespace) && !d.widening && !d.waits()
}
