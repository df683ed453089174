package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

func newStatus(a *app) *cobra.Command {
	var digest bool
	cmd := &cobra.Command{
		Use:   "status [--digest]",
		Short: "say how the vault is",
		Long: `Say how the vault is, from what this device knows: nobody is asked; when it was last
in step with its secondary it says, too. While an alarm
stops the sync, that comes first, and the exit status is 9. With -v it lists what is
not in order: changes that were refused, cannot be read or have not come, and records
that are dated in the future.

--digest prints one line, a hash over everything that the vault shows. It is equal
on devices with equal content; "+N unsent" is added as long as there are changes
that the other devices cannot have.`,
		Example: `  kist status
  kist status --digest
  kist status --json | jq .pending`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAny(cmd.Context(), func(v *vault.Vault) error {
				if digest {
					return a.printDigest(cmd.Context(), v)
				}
				return a.status(cmd.Context(), v)
			})
		},
	}
	cmd.Flags().BoolVar(&digest, "digest", false, "print one line that is equal on devices with equal content")
	return cmd
}

// start is what plain "kist" does.
func (a *app) start(ctx context.Context) error {
	ok, err := vault.Exists(a.vaultDir)
	if err != nil {
		return err
	}
	if ok {
		return a.withAny(ctx, func(v *vault.Vault) error { return a.status(ctx, v) })
	}
	if a.json {
		return vault.ErrNoVault
	}
	_, err = fmt.Fprintf(a.stdout, `There is no vault in %s yet.

  kist onboard INVITE --key FILE   make one, with an invite from whoever runs your secondary
  kist onboard --key FILE          bring this device into the vault that FILE opens
  kist restore --key FILE          get a lost device back
  kist init --key FILE             make one on this device alone

FILE is your key file. It belongs on a USB stick or another safe place, not here.
kist --help tells more.
`, a.show(a.vaultDir))
	return err
}

func (a *app) printDigest(ctx context.Context, v *vault.Vault) error {
	if err := a.finished(v); err != nil {
		return err
	}
	text, err := digestText(ctx, v)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(struct {
			Version int    `json:"version"`
			Digest  string `json:"digest"`
		}{jsonVersion, text})
	}
	_, err = fmt.Fprintln(a.stdout, text)
	return err
}

func digestText(ctx context.Context, v *vault.Vault) (string, error) {
	digest, pending, err := v.Digest(ctx)
	if err != nil {
		return "", err
	}
	text := hex.EncodeToString(digest[:])
	if pending > 0 {
		text += fmt.Sprintf(" +%d unsent", pending)
	}
	return text, nil
}

func (a *app) status(ctx context.Context, v *vault.Vault) error {
	st, err := v.Status(ctx)
	if err != nil {
		return err
	}
	last, err := lastChange(ctx, v, st.Commits)
	if err != nil {
		return err
	}
	alarm, err := v.Alarm(ctx)
	if err != nil {
		return err
	}
	if a.json {
		digest, err := digestText(ctx, v)
		if err != nil {
			return err
		}
		if err := a.printJSON((&summary{st, last, digest}).json(a.vaultDir)); err != nil {
			return err
		}
	} else {
		a.printStatus(st, alarm, last)
		if a.verbose {
			if err := a.listOdd(ctx, v); err != nil {
				return err
			}
		}
	}
	switch {
	case st.Alarm != "":
		f := &failure{code: exitIntegrity, text: "an alarm stops the sync; what is on this device can be used", hint: "kist doctor"}
		f.detail("alarm", st.Alarm)
		return f
	case st.Revoked:
		return vault.ErrRevoked
	}
	return nil
}

func (a *app) printStatus(st *vault.Status, alarm *vault.Alarm, last *vault.CommitInfo) {
	if alarm != nil {
		fmt.Fprintf(a.stdout, "%s\n", a.out.Red("ALARM: "+explanationOf(alarm).title))
		fmt.Fprintf(a.stdout, "  seen %s; nothing of it was taken over, and nothing is sent or received: kist doctor\n", a.timeText(alarm.Time))
	}
	line := func(label, text string) {
		fmt.Fprintf(a.stdout, "  %-10s  %s\n", label, a.show(text))
	}
	fmt.Fprintf(a.stdout, "vault %s in %s\n", a.out.Bold(st.Vault.Short()), a.show(a.vaultDir))
	line("device", fmt.Sprintf("%s (%s)", st.DeviceName, st.Device.Short()))
	line("protection", protectionText(a.vaultDir))
	if st.Secondary == "" {
		line("secondary", "none: the vault is on this device alone")
	} else {
		line("secondary", st.Secondary)
		if st.Moved != nil {
			line("", a.movedText(st.Moved, st.Secondary))
		}
	}
	state := withContact(stateText(st), st, time.Now())
	old := st.Secondary != "" && !st.InStep.IsZero() && time.Since(st.InStep) > longAgo
	switch {
	case st.Alarm != "" || st.Revoked:
		state = a.out.Red(a.show(state))
	case st.Pending+st.Missing+st.Quarantine > 0 || st.Selecting || unfinished(st) || st.Rebuilding || old:
		state = a.out.Yellow(a.show(state))
	default:
		state = a.out.Green(a.show(state))
	}
	fmt.Fprintf(a.stdout, "  %-10s  %s\n", "state", state)
	line("records", recordsText(st))
	if !st.Selection.All() || st.Selecting {
		text := strings.Join(selectionText(&st.Selection), "; ")
		if st.Selecting {
			text += " (to be carried out: kist sync)"
		}
		line("kept here", text)
	}
	if !st.Retention.All() {
		line("versions", retentionText(st.Retention))
	}
	if st.Base > 0 {
		line("history", historyText(st)+": "+laterText)
	}
	if stale := a.staleText(st); stale != "" {
		line("warning", stale)
	}
	if st.Conflicts > 0 {
		line("conflicts", term.Plural(st.Conflicts, "record has", "records have")+" several versions: kist conflicts")
	}
	if n := st.Aside - st.NoRoom; n > 0 {
		line("refused", term.Plural(n, "change", "changes")+" of this device: kist sync tells why")
	}
	if st.NoRoom > 0 {
		line("no room", term.Plural(st.NoRoom, "change is", "changes are")+" on this device alone: the vault has no more room at the secondary")
	}
	if st.Quarantine > 0 {
		line("quarantine", term.Plural(st.Quarantine, "change", "changes")+" cannot be read, and all others can: kist status -v lists them")
	}
	if st.Missing > 0 {
		line("missing", "the content of "+term.Plural(st.Missing, "change", "changes")+": kist sync gets it")
	}
	if st.Ahead > 0 {
		line("clocks", term.Plural(st.Ahead, "record is", "records are")+" dated in the future: kist status -v lists them")
	}
	if len(st.Devices) > 0 {
		line("devices", devicesText(st))
	}
	if last != nil {
		when := ""
		if !last.Time.IsZero() { // its content is here
			when = a.timeText(last.Time) + ", "
		}
		line("last", fmt.Sprintf("%sby %s (commit %d)", when, last.Device, last.ID))
	}
}

// listOdd lists what status counts as not in order.
func (a *app) listOdd(ctx context.Context, v *vault.Vault) error {
	list, err := v.Problems(ctx, maxListed)
	for _, p := range list {
		fmt.Fprintf(a.stdout, "  - %s\n", a.show(string(p.Kind)+": "+problemText(p)))
	}
	if err != nil {
		return err
	}
	ahead, err := v.Ahead(ctx, maxListed)
	for _, rec := range ahead {
		fmt.Fprintf(a.stdout, "  - %s\n", a.show(fmt.Sprintf("future: %q: dated %s by %s", rec.Namespace+"/"+rec.Name, a.timeText(rec.Time), rec.Device)))
	}
	return err
}

// lastChange returns the last commit that changed records; nil if there is none.
func lastChange(ctx context.Context, v *vault.Vault, commits uint64) (*vault.CommitInfo, error) {
	const page = 64
	for end := commits; end > 0; end -= min(page, end) {
		list, err := v.Log(ctx, commitlog.CommitID(end-min(page, end)), int(min(page, end)))
		if err != nil {
			return nil, err
		}
		for _, c := range slices.Backward(list) {
			if c.Kind != commitlog.KindControl {
				return c, nil
			}
		}
	}
	return nil, nil
}

func unfinished(st *vault.Status) bool { return st.Secondary != "" && !st.Enrolled }

// stateText says in one sentence where the vault is.
func stateText(st *vault.Status) string {
	switch {
	case st.Revoked:
		return "this device was revoked"
	case st.Alarm != "":
		return "alarm: " + st.Alarm
	case st.Rebuilding:
		return "being restored after damage: kist sync gets the rest"
	case unfinished(st):
		return "not complete: run the same kist onboard or kist restore again"
	case st.Secondary == "":
		return "everything is on this device, and nowhere else"
	case st.Pending > 0:
		return fmt.Sprintf("%s to send, at commit %d", term.Plural(st.Pending, "change", "changes"), st.Commits)
	case st.Selecting:
		return fmt.Sprintf("what is kept here was chosen anew, at commit %d: kist sync", st.Commits)
	}
	return fmt.Sprintf("in step at commit %d", st.Commits)
}

// protectionText says what keeps others from the device file.
func protectionText(dir string) string {
	info, err := os.Stat(filepath.Join(dir, "device.key"))
	switch {
	case err != nil:
		return "unknown: " + err.Error()
	case runtime.GOOS == "windows":
		return "none but your account's: who can read your files can open this vault"
	}
	return fmt.Sprintf("by file mode %04o alone: who can read your files can open this vault", info.Mode().Perm())
}

func recordsText(st *vault.Status) string {
	var parts []string
	for _, n := range st.Namespaces {
		name := n.Name
		if name == "" {
			name = "(unnamed)"
		}
		if n.Records > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", name, n.Records))
		}
	}
	slices.Sort(parts)
	if len(parts) == 0 {
		return "0"
	}
	return fmt.Sprintf("%d in %s: %s", st.Records, term.Plural(len(parts), "namespace", "namespaces"), strings.Join(parts, ", "))
}

func devicesText(st *vault.Status) string {
	var parts []string
	for _, d := range st.Devices {
		name := d.Name
		switch {
		case d.This:
			name += " (this one)"
		case d.Revoked:
			name += " (revoked)"
		}
		parts = append(parts, name)
	}
	return strings.Join(parts, ", ")
}

// jsonStatus is what status prints with --json.
type jsonStatus struct {
	Version    int             `json:"version"`
	Type       string          `json:"type"` // "status"
	Vault      string          `json:"vault"`
	Directory  string          `json:"directory"`
	Device     jsonDevice      `json:"device"`
	Protection jsonProtection  `json:"protection"`
	Secondary  string          `json:"secondary"` // empty: none
	Moved      *jsonMoved      `json:"moved,omitempty"`
	State      string          `json:"state"` // "local", "unfinished", "restoring", "unsent", "selecting", "in-step", "alarm", "revoked"
	Commits    uint64          `json:"commits"`
	InStep     *time.Time      `json:"in_step,omitempty"`  // when it was last; none: not known
	Base       uint64          `json:"base,omitempty"`     // the log began at a checkpoint of this size …
	Verified   *uint64         `json:"verified,omitempty"` // … and so many below are verified so far
	Heard      string          `json:"heard,omitempty"`    // when another device signed the newest that came
	Stale      bool            `json:"stale,omitempty"`
	Root       string          `json:"root"`
	Epoch      uint32          `json:"epoch"`
	Digest     string          `json:"digest"`
	Records    int             `json:"records"`
	Pending    int             `json:"pending"`
	Refused    int             `json:"refused"`
	Quarantine int             `json:"quarantine"`
	Missing    int             `json:"missing"`
	Conflicts  int             `json:"conflicts"`
	Ahead      int             `json:"ahead"`   // records dated more than a day ahead
	NoRoom     int             `json:"no_room"` // of those refused, for want of room at the secondary
	Devices    []jsonDevice    `json:"devices"`
	Namespaces []jsonNamespace `json:"namespaces"`
	Selection  jsonSelection   `json:"selection"`
	Retention  jsonRetention   `json:"retention"`
	Last       *jsonCommit     `json:"last_change"`
	Alarm      string          `json:"alarm,omitempty"`
}

type jsonDevice struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	This    bool   `json:"this"`
	Revoked bool   `json:"revoked"`
}

type jsonProtection struct {
	Kind string `json:"kind"` // "mode"
	Mode string `json:"mode"`
}

type jsonNamespace struct {
	Name     string `json:"name"` // empty: not known
	Tag      string `json:"tag"`
	Selected bool   `json:"selected"` // it is kept on this device
	Records  int    `json:"records"`
}

type jsonCommit struct {
	Version   int        `json:"version"`
	Type      string     `json:"type"` // "commit"
	Commit    uint64     `json:"commit"`
	Kind      string     `json:"kind"` // "data" or "control"
	Namespace string     `json:"namespace"`
	Device    string     `json:"device"`
	Changes   int        `json:"changes"`
	Time      *time.Time `json:"time,omitempty"`
	Says      []string   `json:"says,omitempty"` // of a control commit, in words
	Leaf      string     `json:"leaf"`
}

func commitJSON(c *vault.CommitInfo) *jsonCommit {
	if c == nil {
		return nil
	}
	kind, namespace := "data", c.Namespace
	if c.Kind == commitlog.KindControl {
		kind, namespace = "control", ""
	}
	return &jsonCommit{
		Version: jsonVersion, Type: "commit", Commit: uint64(c.ID), Kind: kind, Namespace: namespace, Device: c.Device,
		Changes: c.Changes, Time: jsonTime(c.Time), Says: statementTexts(c), Leaf: hex.EncodeToString(c.Leaf[:]),
	}
}

func (s *summary) json(dir string) *jsonStatus {
	st := s.st
	j := &jsonStatus{
		Version: jsonVersion, Type: "status", Vault: st.Vault.String(), Directory: dir,
		Device:     jsonDevice{ID: st.Device.String(), Name: st.DeviceName, This: true, Revoked: st.Revoked},
		Protection: jsonProtection{Kind: "mode"}, Secondary: st.Secondary, Moved: movedJSON(st.Moved), State: stateWord(st), InStep: jsonTime(st.InStep), Commits: st.Commits,
		Root: hex.EncodeToString(st.Root[:]), Epoch: st.Epoch, Digest: s.digest, Records: st.Records, Pending: st.Pending,
		Refused: st.Aside, NoRoom: st.NoRoom, Quarantine: st.Quarantine, Missing: st.Missing, Conflicts: st.Conflicts, Ahead: st.Ahead,
		Devices: []jsonDevice{}, Namespaces: []jsonNamespace{}, Last: commitJSON(s.last), Alarm: st.Alarm,
		Selection: selectionJSON(&st.Selection, !st.Selecting), Retention: retentionJSON(st.Retention),
	}
	if j.Base, j.Stale = st.Base, st.Stale; st.Base > 0 {
		j.Verified = &st.Verified
	}
	if !st.Heard.IsZero() {
		j.Heard = st.Heard.UTC().Format(time.RFC3339)
	}
	if info, err := os.Stat(filepath.Join(dir, "device.key")); err == nil {
		j.Protection.Mode = fmt.Sprintf("%04o", info.Mode().Perm())
	}
	for _, d := range st.Devices {
		j.Devices = append(j.Devices, jsonDevice{ID: d.ID.String(), Name: d.Name, This: d.This, Revoked: d.Revoked})
	}
	for _, n := range slices.SortedFunc(slices.Values(st.Namespaces), func(a, b vault.NamespaceStatus) int { return strings.Compare(a.Name, b.Name) }) {
		j.Namespaces = append(j.Namespaces, jsonNamespace{Name: n.Name, Tag: n.Tag.String(), Selected: n.Selected, Records: n.Records})
	}
	return j
}

func stateWord(st *vault.Status) string {
	switch {
	case st.Revoked:
		return "revoked"
	case st.Alarm != "":
		return "alarm"
	case st.Rebuilding:
		return "restoring"
	case unfinished(st):
		return "unfinished"
	case st.Secondary == "":
		return "local"
	case st.Pending > 0:
		return "unsent"
	case st.Selecting:
		return "selecting"
	}
	return "in-step"
}
