package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCompletion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "print what lets a shell complete commands and names",
		Long:  `Print the code that lets a shell complete commands, flags and record names.`,
		Example: `  kist completion bash > ~/.local/share/bash-completion/completions/kist
  kist completion zsh > "${fpath[1]}/_kist"
  kist completion fish > ~/.config/fish/completions/kist.fish
  kist completion powershell | Out-String | Invoke-Expression`,
		Args:      exactly(1),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
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
