package entries

import (
	"bytes"
	"errors"
	"io"
	"mime/quotedprintable"
	"strings"
)

var (
	errCardGarbage = errors.New("text outside of a card")
	errCardEnd     = errors.New("card without END:VCARD")
)

// A card is the lines from BEGIN:VCARD to its END:VCARD, versions 2.1, 3.0 and
// 4.0, whatever is between them.
type card struct {
	span
	uid string // empty if it has none
}

func (f *file) readCards() error {
	return splitCards(f.data, func(c card) error {
		value := c.of(f.data)
		return f.take(Contacts, c.uid, typeVCard, value, value, c.line)
	}, f.problem)
}

// splitCards finds the cards. Each byte of data is in a card, in what is
// reported as bad, or blank.
func splitCards(data []byte, take func(card) error, bad func(span, error)) error {
	var (
		s       = newScanner(data)
		garbage span // lines outside of cards, not yet reported
		cur     card
		open    bool
		depth   int  // of cards inside the card: version 2.1 nests an agent's
		agent   bool // the last line was an AGENT waiting for its card
	)
	flush := func() {
		if garbage.line != 0 {
			bad(garbage, errCardGarbage)
		}
		garbage = span{}
	}
	for {
		l, ok := s.next()
		if !ok {
			break
		}
		// A boundary counts before unfolding: garbage with a space in front, after
		// an END, must not take the card with it.
		name, begin := boundary(l.text)
		var p property
		if open && name == "" {
			first := l.text
			l = s.unfold(l)
			// A folded BEGIN would not be seen outside of a card.
			if end, begins := foldedBoundary(first, l.text); !begins {
				name = end
			}
			p, _ = parseProperty(l.text)
		}
		isBegin, isEnd := name == "VCARD" && begin, name == "VCARD" && !begin
		switch {
		case isBegin && open && agent:
			depth++
			agent = false
			cur.span = cur.to(l.span)

		case isBegin:
			if open {
				bad(cur.span, errCardEnd)
			}
			flush()
			cur, open, depth, agent = card{span: l.span}, true, 0, false

		case !open:
			if !blank(l.text) {
				garbage = garbage.to(l.span)
			}

		case isEnd && depth > 0:
			depth--
			cur.span = cur.to(l.span)

		case isEnd:
			cur.span = cur.to(l.span)
			open = false
			if err := take(cur); err != nil {
				return err
			}

		default:
			if isQuotedPrintable(p) {
				l = s.softBreaks(l)
				p, _ = parseProperty(l.text)
				p.value = decodeQuotedPrintable(p.value)
			}
			cur.span = cur.to(l.span)
			if !blank(l.text) {
				agent = p.name == "AGENT" && blank(p.value)
			}
			if p.name == "AGENT" {
				if inner, begin := boundary(bytes.TrimSpace(p.value)); begin && inner == "VCARD" {
					depth++
				}
			}
			if p.name == "UID" && depth == 0 && cur.uid == "" {
				cur.uid = p.text()
			}
		}
	}
	if open {
		bad(cur.span, errCardEnd)
	}
	flush()
	return nil
}

func isQuotedPrintable(p property) bool {
	if enc, ok := p.param("ENCODING"); ok {
		return strings.EqualFold(enc, "QUOTED-PRINTABLE")
	}
	_, alone := p.param("QUOTED-PRINTABLE")
	return alone
}

// softBreaks takes the lines that a quoted-printable value goes on with: all
// after a line that ends with "=". A boundary ends it all the same, since
// writers that put "=" after the last line too are more common than texts with
// such a line.
func (s *scanner) softBreaks(l line) line {
	own := false
	for bytes.HasSuffix(l.text, []byte("=")) && s.pos < len(s.data) {
		before := *s
		more, _ := s.next()
		if name, _ := boundary(more.text); name == "VCARD" {
			*s = before
			break
		}
		if !own {
			l.text, own = bytes.Clone(l.text), true
		}
		l.text = append(l.text[:len(l.text)-1], more.text...)
		l.span = l.to(more.span)
	}
	return l
}

// decodeQuotedPrintable returns b as it is if it is not well formed.
func decodeQuotedPrintable(b []byte) []byte {
	d, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(b)))
	if err != nil {
		return b
	}
	return d
}
