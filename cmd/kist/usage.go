package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// topic returns an error for the words after help, if they are no command.
func topic(root *cobra.Command, args []string) error {
	if c, rest, err := root.Find(args); err != nil || c == root && len(rest) > 0 {
		return &failure{code: exitUsage, text: fmt.Sprintf("there is no command %q", strings.Join(args, " ")), hint: "kist --help"}
	}
	return nil
}

// flagError says in words what is wrong with a flag's value.
func flagError(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	f := invalid.GetFlag()
	want := "it is not what --help says"
	switch f.Value.Type() {
	case "int":
		want = "it is a whole number"
	case "uint64":
		want = "it is a whole number, from 0 on"
	case "duration":
		want = "it is a time such as 30s or 5m"
	case "bool":
		want = "it is true or false"
	}
	return fmt.Errorf("--%s %q: %s", f.Name, invalid.GetValue(), want)
}

// exactly and between check how many arguments there are; max -1 is any number.
func exactly(n int) cobra.PositionalArgs { return between(n, n) }

func between(min, max int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < min:
			return errors.New("an argument is missing")
		case max >= 0 && len(args) > max:
			return fmt.Errorf("there is no use for the argument %q", args[max])
		}
		return nil
	}
}
