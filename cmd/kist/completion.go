package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/agent"
	"github.com/kistvault/kist/vault"
)

func newCompletion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "print what lets a shell complete commands and names",
		Long: `Print the code that lets a shell complete commands, flags and record names. In bash
it needs the package bash-completion.`,
		Example: `  kist completion bash > ~/.local/share/bash-completion/completions/kist
  kist completion zsh > "${fpath[1]}/_kist"
  kist completion fish > ~/.config/fish/completions/kist.fish
  kist completion powershell | Out-String | Invoke-Expression`,
		Args:        exactly(1),
		Annotations: annotate(vaultNot),
		ValidArgs:   []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.stdout)
			case "fish":
				return root.GenFishCompletion(a.stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.stdout)
			}
			return usageError{fmt.Errorf("%q is none of bash, zsh, fish and powershell", args[0])}
		},
	}
}

// complete has fn complete a word with what is in the vault: nothing, where that
// cannot be used. Files are never among it.
func (a *app) complete(cmd *cobra.Command, fn func(v *vault.Vault) ([]string, cobra.ShellCompDirective)) (list []string, d cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if a.settle(cmd) != nil {
		return nil, none
	}
	if a.held == nil {
		if list, d, err := a.completeRemotely(cmd.Context()); err == nil {
			return list, d
		}
	}
	err := a.with(cmd.Context(), func(v *vault.Vault) error {
		list, d = fn(v)
		return nil
	})
	if err != nil {
		return nil, none
	}
	return list, d | none
}

// completeRemotely has the agent complete the same words.
func (a *app) completeRemotely(ctx context.Context) (list []string, d cobra.ShellCompDirective, err error) {
	conn, _, err := agent.Dial(a.vaultDir, version())
	if err != nil {
		return nil, 0, err
	}
	var out bytes.Buffer
	call, err := a.call()
	if err != nil {
		return nil, 0, errors.Join(err, conn.Close())
	}
	code, err := conn.Run(ctx, call, agent.Streams{Out: &out, Err: io.Discard})
	if err != nil || code != exitOK {
		return nil, 0, errors.Join(err, handed(code))
	}
	// A word a line, and last a colon and the directive.
	for line := range strings.Lines(out.String()) {
		list = append(list, strings.TrimSuffix(line, "\n"))
	}
	if len(list) == 0 {
		return nil, 0, io.ErrUnexpectedEOF
	}
	last := len(list) - 1
	n, err := strconv.Atoi(strings.TrimPrefix(list[last], ":"))
	return list[:last], cobra.ShellCompDirective(n), err
}
