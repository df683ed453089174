package main

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/vault"
)

// jsonAddress is a record's address in JSON, which cannot hold every name.
type jsonAddress struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	NameBytes []byte `json:"name_base64,omitempty"` // the name, where it is not UTF-8
}

func jsonName(namespace, name string) jsonAddress {
	j := jsonAddress{Namespace: namespace, Name: strings.ToValidUTF8(name, "\ufffd")}
	if !utf8.ValidString(name) {
		j.NameBytes = []byte(name)
	}
	return j
}

// jsonChange is what a write prints.
type jsonChange struct {
	Version int    `json:"version"`
	Type    string `json:"type"`
	jsonAddress
	Revision uint64 `json:"revision"`
}

// jsonRecord is a version of a record, without its value.
type jsonRecord struct {
	Version int    `json:"version"`
	Type    string `json:"type"` // "record", "version", "put" or "delete"
	jsonAddress
	ContentType string     `json:"content_type"`
	Size        int64      `json:"size"`
	Revision    uint64     `json:"revision,omitempty"`
	Commit      string     `json:"commit,omitempty"` // its place in the log: commit.index
	Time        *time.Time `json:"time,omitempty"`
	Device      string     `json:"device"`
	Expires     *time.Time `json:"expires,omitempty"`
	Available   *time.Time `json:"available,omitempty"`
	Deleted     bool       `json:"deleted"`
	Live        bool       `json:"live"`
	Pending     bool       `json:"pending"`
	Siblings    int        `json:"siblings"`
	Away        bool       `json:"away,omitempty"`   // its value was left at the secondary
	Unread      string     `json:"unread,omitempty"` // a newer version that this program cannot use, and instead of which this is shown
	Ahead       bool       `json:"ahead,omitempty"`  // its time is more than a day ahead
}

func recordJSON(kind string, r *vault.Record) jsonRecord {
	j := jsonRecord{
		Version: jsonVersion, Type: kind, jsonAddress: jsonName(r.Namespace, r.Name), ContentType: r.ContentType, Size: r.Size,
		Revision: uint64(r.Revision), Time: jsonTime(r.Time), Device: r.Device, Expires: jsonTime(r.Expires),
		Available: jsonTime(r.Available), Deleted: r.Deleted, Live: r.Live, Pending: r.Pending, Siblings: r.Siblings, Away: r.Away, Ahead: r.Ahead,
	}
	if r.Unread.Commit != 0 {
		j.Unread = r.Unread.String()
	}
	if r.Commit.Commit != 0 {
		j.Commit = r.Commit.String()
	}
	return j
}

// completeRecord completes NAMESPACE/NAME in a shell.
func (a *app) completeRecord(cmd *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault // a file
	}
	return a.completeRecords(cmd, nil, begin)
}

// completeRecords completes several.
func (a *app) completeRecords(cmd *cobra.Command, _ []string, begin string) ([]string, cobra.ShellCompDirective) {
	const enough = 200
	return a.complete(cmd, func(v *vault.Vault) (out []string, d cobra.ShellCompDirective) {
		namespace, prefix, ok := strings.Cut(begin, "/")
		if !ok {
			list, _ := v.Namespaces(cmd.Context())
			for _, n := range list {
				if strings.HasPrefix(n, begin) {
					out = append(out, n+"/")
				}
			}
			return out, cobra.ShellCompDirectiveNoSpace
		}
		for rec, err := range v.Namespace(namespace).List(cmd.Context(), vault.Prefix(prefix), vault.NamesOnly()) {
			if err != nil || len(out) == enough {
				break
			}
			out = append(out, namespace+"/"+rec.Name)
		}
		return out, 0
	})
}
