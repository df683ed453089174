package settings

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// plainUsage is the usage without the quotes that mark the value's name.
func plainUsage(s *Setting) string { return strings.ReplaceAll(s.Usage, "`", "") }

// literal writes the value as the file has it.
func literal(s *Setting) string {
	text := s.Value.String()
	switch s.Value.Type() {
	case "bool", "uint32":
		return text
	case "list":
		all := []string{}
		for one := range strings.SplitSeq(text, ",") {
			if one != "" {
				all = append(all, strconv.Quote(one))
			}
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	return strconv.Quote(text)
}

// Example writes a file in which every setting stands as it is now, as a comment.
func (t *Table) Example(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Settings of %s. Lines that begin with #%s are defaults; remove the # to change one.\n", t.Program, "name")
	fmt.Fprintf(&b, "# A flag --name counts more than %sNAME in the environment, and that more than this file.\n", t.Variable(""))
	group := ""
	for _, s := range t.Settings {
		if s.Group != group {
			group = s.Group
			fmt.Fprintf(&b, "\n\n# == %s ==\n", group)
		}
		b.WriteString("\n")
		comment(&b, capital(plainUsage(&s))+".")
		if s.More != "" {
			comment(&b, s.More)
		}
		fmt.Fprintf(&b, "#%s = %s\n", s.Name, literal(&s))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Markdown writes the table as the manual has it.
func (t *Table) Markdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| setting | default | |\n|---|---|---|\n")
	for _, s := range t.Settings {
		text := capital(plainUsage(&s)) + "."
		if s.More != "" {
			text += " " + s.More
		}
		value := "`" + literal(&s) + "`"
		if v := s.Value.String(); v == "" {
			value = "none"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.Name, value, strings.ReplaceAll(text, "|", `\|`))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Differing writes the settings that have not their default, and what says so.
func (t *Table) Differing(w io.Writer, l *Loaded) error {
	var b strings.Builder
	for _, s := range t.Settings {
		if from := l.From[s.Name]; from != "" {
			fmt.Fprintf(&b, "%s = %s  (%s)\n", s.Name, literal(&s), from)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func capital(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// comment writes text as a comment of lines that fit a terminal.
func comment(b *strings.Builder, text string) {
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 88 {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
