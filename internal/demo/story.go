package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What the person does with one note on both devices at once.
const (
	sharedNote   = "notes/shopping list.txt"
	laptopsList  = "oats, lemons, lamp oil, stamps (12), nails for the shed (400)\n"
	phonesList   = "oats, lemons, lamp oil, stamps (12), strings for the cello\n"
	phonesNote   = "notes/written on the train.md"
	phonesText   = "Wilhelmina says the canoe has a second leak.\n"
	removedNote  = "notes/ideas 💡.md"
	passphrase   = "orange lantern over quiet water"
	laptopName   = "laptop-of-ada"
	phoneName    = "phone-of-ada"
	restoredName = "new-laptop-of-ada"
)

// story is the whole demonstration, from beginning to end.
func (d *demo) story() error {
	d.explain(`This is kist's main job, done for real with the programs of this clone, on this
		machine and without any other: a person's contacts, calendar and notes go into an
		encrypted vault, to a secondary, to a second device; the first device is lost; the
		key file alone brings everything back. What follows "$" was really run.`)

	d.begin("Build the programs")
	if err := d.build(); err != nil {
		return err
	}
	d.started = time.Now()

	d.begin("Start a secondary")
	d.explain(`A secondary is the server that keeps vaults and can read nothing of them. This
		one has its store in a directory of its own and listens on this machine alone. It
		makes its key and a certificate, and one invite, since it has no vault yet.`)
	address, err := d.startSecondary("127.0.0.1:0")
	if err != nil {
		return err
	}
	invite, err := d.invite()
	if err != nil {
		return err
	}

	d.begin("Put a laptop on it")
	laptop, err := d.newDevice("laptop", laptopName)
	if err != nil {
		return err
	}
	if err := d.prepare(laptop); err != nil {
		return err
	}
	d.explain(`The passphrase comes from a file here; a person is asked for it. The key file
		goes to another place than the device: here a directory, in life a USB stick.`)
	if _, err := laptop.kist(0, "", "onboard", invite, "--key", keyFile, "--name", laptop.name); err != nil {
		return err
	}
	d.explain(`The key file was written, synced to the disk, read back and opened before the
		secondary heard of the vault.`)

	d.begin("Bring data in")
	for _, args := range [][]string{
		{"import", "contacts.vcf", "calendar.ics"},
		{"import", "notes", "--namespace", "notes"},
		{"ls", "notes/"},
		{"get", sharedNote},
	} {
		if _, err := laptop.kist(0, "", args...); err != nil {
			return err
		}
	}
	d.explain(`Each record was sealed on the laptop and is safe on its disk. Nothing has been
		sent.`)

	d.begin("Sync")
	if _, err := laptop.kist(0, "", "sync"); err != nil {
		return err
	}

	d.begin("Put a phone on it")
	phone, err := d.newDevice("phone", phoneName)
	if err != nil {
		return err
	}
	d.explain(`The same key file and passphrase, and no invite: the key file says where the
		secondary is and by which key to know it.`)
	if _, err := phone.kist(0, "", "onboard", "--key", keyFile, "--name", phone.name); err != nil {
		return err
	}
	if _, err := laptop.kist(0, "", "sync"); err != nil { // it hears of the phone
		return err
	}
	if err := d.sameDigests(laptop, phone); err != nil {
		return err
	}

	if err := d.edits(laptop, phone, address); err != nil {
		return err
	}
	if err := d.noise(laptop, phone); err != nil {
		return err
	}
	restored, err := d.loss(laptop, phone)
	if err != nil {
		return err
	}
	if err := d.compare(restored, phone); err != nil {
		return err
	}

	if err := d.stopSecondary(); err != nil {
		return err
	}
	d.begin("Done")
	d.explain(fmt.Sprintf(`Everything came out as it should, in %.1f s after building. The secondary was
		told to stop, and did.`, time.Since(d.started).Seconds()))
	return nil
}

// keyFile is where the key file is, as seen from a device.
const keyFile = "../usb/me.kistkey"

// prepare puts a person's files on a device, a passphrase into a file, and a USB
// stick beside it.
func (d *demo) prepare(v *device) error {
	return errors.Join(
		os.CopyFS(v.dir, os.DirFS(filepath.Join(d.repo, "testdata", "demo"))),
		os.WriteFile(filepath.Join(d.dir, "passphrase"), []byte(passphrase+"\n"), 0o600),
		os.Mkdir(filepath.Join(d.dir, "usb"), 0o700),
	)
}

// sameDigests compares the state of two devices, in one line each.
func (d *demo) sameDigests(a, b *device) error {
	d.explain(`The digest is one hash over all that is alive in the vault. Devices with the same
		state have the same one:`)
	x, err := a.kist(0, "", "status", "--digest")
	if err != nil {
		return err
	}
	y, err := b.kist(0, "", "status", "--digest")
	if err != nil {
		return err
	}
	if !bytes.Equal(x, y) {
		return errors.New("the digests differ")
	}
	return nil
}

// edits changes things on both devices while there is no network.
func (d *demo) edits(laptop, phone *device, address string) error {
	d.begin("Edit on both, without a network")
	d.explain(`The secondary is switched off. The devices go on all the same; both change the
		shopping list, each without knowing of the other.`)
	if err := d.stopSecondary(); err != nil {
		return err
	}
	d.say("secondary$ (stopped)")
	for _, e := range []struct {
		on    *device
		want  int
		stdin string
		args  []string
	}{
		{laptop, 0, laptopsList, []string{"put", sharedNote}},
		{laptop, 0, "", []string{"rm", removedNote}},
		{phone, 0, phonesList, []string{"put", sharedNote}},
		{phone, 0, phonesText, []string{"put", phonesNote}},
		{phone, 5, "", []string{"sync"}},
	} {
		if _, err := e.on.kist(e.want, e.stdin, e.args...); err != nil {
			return err
		}
	}
	d.explain(`Exit status 5: try again later. Nothing is lost meanwhile. The secondary comes
		back, and both sync.`)
	if _, err := d.startSecondary(address); err != nil {
		return err
	}
	for _, v := range []*device{laptop, phone, laptop} {
		if _, err := v.kist(0, "", "sync"); err != nil {
			return err
		}
	}
	d.explain(`Both lists are kept. Which one is shown is decided alike on each device, by the
		later clock; the other is in the history, "at the same time".`)
	if _, err := laptop.kist(0, "", "get", sharedNote); err != nil {
		return err
	}
	if _, err := laptop.kist(0, "", "history", sharedNote); err != nil {
		return err
	}
	return d.sameDigests(laptop, phone)
}

// noise shows what the secondary has of all this.
func (d *demo) noise(laptop, phone *device) error {
	d.begin("Look at what the secondary holds")
	data := filepath.Join(d.dir, secondaryData)
	held, err := tree(data)
	if err != nil {
		return err
	}
	d.say("secondary$ find %s -type f", secondaryData)
	var object []byte
	names := make([]string, 0, len(held))
	for name := range held {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		d.say("    %9d bytes  %s", len(held[name]), name)
		if strings.HasPrefix(name, "objects/") {
			object = held[name]
		}
	}
	original, err := os.ReadFile(filepath.Join(laptop.dir, "notes", "projects", "garden shed", "sketch.png"))
	if err != nil {
		return err
	}
	if len(object) == 0 {
		return errors.New("the secondary holds no object")
	}
	d.explain(`The file in objects/ is the one value over 64 KiB, a picture of the shed. On the
		laptop it begins:`)
	d.hexDump(original[:48])
	d.explain("What the secondary has of it begins:")
	d.hexDump(object[:48])
	percent, err := squeezed(object)
	if err != nil {
		return err
	}
	store := held["kist.db"]
	at, sample := inside(store, 96)
	d.explain(fmt.Sprintf(`A compressor finds nothing in it: it comes out at %.2f %% of its size. It is a
		little longer than the picture, so that not even the exact size is told. The other
		records are in kist.db, with the log; from byte %d on:`, percent, at))
	d.hexDump(sample)

	s, err := d.plant(laptop, phone)
	if err != nil {
		return err
	}
	log, out := filepath.Join(d.dir, secondaryLog), filepath.Join(d.dir, secondaryOut)
	finds, files, size, err := s.files(data, log, out)
	if err != nil {
		return err
	}
	d.explain(fmt.Sprintf(`Now a search of all of it, and of all that the secondary logged, for %d names,
		lines and words of the person's data, for the names of namespaces and devices, and
		for the passphrase; each as it is, as UTF-16, in hexadecimal and in base64:`, len(s.texts)))
	d.report(finds, files, size)
	if len(finds) > 0 {
		return errors.New("the secondary holds something of the person's data")
	}
	finds, files, size, err = s.files(filepath.Join(laptop.dir, "vault"), filepath.Join(phone.dir, "vault"))
	if err != nil {
		return err
	}
	d.explain("The same in the devices' own vaults, which are sealed, too:")
	d.report(finds, files, size)
	if len(finds) > 0 {
		return errors.New("a vault's directory shows something of the person's data")
	}
	// A search that finds nothing proves something only if it can find.
	finds, files, size, err = s.files(filepath.Join(laptop.dir, "contacts.vcf"), filepath.Join(laptop.dir, "calendar.ics"), filepath.Join(laptop.dir, "notes"))
	if err != nil {
		return err
	}
	d.explain("And in the files that were imported, to see that the search can find:")
	all := make(map[string]bool)
	for _, f := range finds {
		for _, p := range f.found {
			all[p.what] = true
		}
	}
	d.say("    %d files, %d bytes: %d of the %d found", files, size, len(all), len(s.texts))
	if len(all) < len(s.texts)/2 {
		return errors.New("the search does not find what is there")
	}
	d.explain(`What the secondary does learn: how many records there are, when they change, which
		change takes the place of which, their sizes after padding, how many namespaces and
		devices there are, and from where they connect.`)
	return nil
}

// report prints what a search has found.
func (d *demo) report(finds []find, files int, size int64) {
	n := 0
	for _, f := range finds {
		for _, p := range f.found {
			d.say("    %s: %q, %s", f.file, p.what, p.form)
			n++
		}
	}
	d.say("    %d files, %d bytes: %d found", files, size, n)
}

// plant returns a search for the person's data.
func (d *demo) plant(laptop, phone *device) (*search, error) {
	s := newSearch()
	for _, text := range []string{
		"contacts", "calendar", "notes", laptopName, phoneName, passphrase,
		laptopsList, phonesList, phonesText, phonesNote, sharedNote,
	} {
		s.add(strings.TrimSpace(text))
	}
	s.addWords(laptopsList + phonesList + phonesText)
	names, _, err := phone.quiet(0, "", "ls", "-0")
	if err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		_, short, _ := strings.Cut(name, "/")
		s.add(name)
		s.add(short)
	}
	files, err := tree(filepath.Join(laptop.dir, "notes"))
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"contacts.vcf", "calendar.ics"} {
		if files[name], err = os.ReadFile(filepath.Join(laptop.dir, name)); err != nil {
			return nil, err
		}
	}
	for name, data := range files {
		if bytes.IndexByte(data, 0) < 0 {
			s.addWords(string(data))
		} else {
			s.add(string(data[:24])) // a picture
		}
		s.add(name)
	}
	return s, nil
}

// loss deletes the laptop and restores it.
func (d *demo) loss(laptop, phone *device) (*device, error) {
	d.begin("Lose the laptop")
	if _, err := laptop.kist(0, "", "export", "../exported-before"); err != nil {
		return nil, err
	}
	d.say("$ rm -r laptop")
	if err := os.RemoveAll(laptop.dir); err != nil {
		return nil, err
	}
	d.explain(`Gone: the vault, the device's keys, the files. (The export is what we will compare
		with; kist does not look at it.)`)

	d.begin("Restore with the key file alone")
	restored, err := d.newDevice("laptop", restoredName)
	if err != nil {
		return nil, err
	}
	if _, err := restored.kist(0, "", "restore", "--key", keyFile, "--name", restored.name); err != nil {
		return nil, err
	}
	d.explain(`It opened the key file, knew the secondary by its key, pulled every commit ever
		made, and checked each of them from the first on: signatures, order, hashes.`)
	_, err = phone.kist(0, "", "sync") // it hears of the new device
	return restored, err
}

// compare shows that nothing is missing.
func (d *demo) compare(restored, phone *device) error {
	d.begin("Compare")
	if err := d.sameDigests(restored, phone); err != nil {
		return err
	}
	if _, err := restored.kist(0, "", "export", "../exported-after"); err != nil {
		return err
	}
	if _, err := phone.kist(0, "", "export", "../exported-phone"); err != nil {
		return err
	}
	before := filepath.Join(d.dir, "exported-before")
	for _, c := range []struct{ dir, what string }{
		{"exported-after", "the lost laptop's export and the restored one's"},
		{"exported-phone", "the lost laptop's export and the phone's"},
	} {
		files, size, err := sameTrees(before, filepath.Join(d.dir, c.dir))
		if err != nil {
			return err
		}
		d.say("$ diff -r exported-before %s", c.dir)
		d.say("    %s: %d files, %d bytes, no difference", c.what, files, size)
	}

	// And with what came in at the beginning.
	originals := filepath.Join(d.repo, "testdata", "demo", "notes")
	notes, err := tree(originals)
	if err != nil {
		return err
	}
	same := 0
	for name, want := range notes {
		record := "notes/" + name
		if record == sharedNote || record == removedNote {
			continue
		}
		got, _, err := restored.quiet(0, "", "get", record)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s is not what was imported", record)
		}
		same++
	}
	d.explain(fmt.Sprintf(`And each of the %d notes that nobody changed is, byte for byte, the file that was
		imported at the beginning; the two that were changed are as they were left.`, same))
	if got, _, err := restored.quiet(0, "", "get", phonesNote); err != nil || string(got) != phonesText {
		return errors.Join(errors.New("the note written on the phone is not what it was"), err)
	}
	if _, _, err := restored.quiet(6, "", "get", removedNote); err != nil {
		return fmt.Errorf("the removed note: %w", err)
	}
	return nil
}
