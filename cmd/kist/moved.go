package main

import "fmt"

// movedSince adds to an error of a secondary that the vault may be at another one by now,
// if the secondary was taken from a key file: a copy from before a move names the one of
// then, which may be gone.
func (a *app) movedSince(f *failure) *failure {
	again := ""
	switch flags := a.cmd.Flags(); {
	case a.cmd.Name() == "restore" && !flags.Changed("secondary"):
		again = "kist restore --key FILE --secondary INVITE"
	case a.cmd.Name() == "onboard" && flags.NArg() == 0:
		again = "kist onboard INVITE --key FILE"
	default:
		return f
	}
	f.detail("moved", "a key file that was copied before the vault moved names the secondary of then")
	also := fmt.Sprintf("if it has moved: %s, with an invite from where it is now (kist secondary on another device says where)", again)
	if f.hint == "" {
		f.hint = also
	} else {
		f.hint += "; " + also
	}
	return f
}
