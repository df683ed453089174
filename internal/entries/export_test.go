package entries

// Piece is what a splitter found: bytes from Start to End taken as an entry, or
// reported.
type Piece struct {
	Start, End int
	Name       string
	Value      []byte
	Bad        error
}

func badPiece(out *[]Piece) func(span, error) {
	return func(s span, err error) { *out = append(*out, Piece{Start: s.start, End: s.end, Bad: err}) }
}

// SplitCards finds the cards in data.
func SplitCards(data []byte) (out []Piece) {
	splitCards(data, func(c card) error {
		out = append(out, Piece{Start: c.start, End: c.end, Name: c.uid, Value: c.of(data)})
		return nil
	}, badPiece(&out))
	return out
}

// SplitCalendar finds the entries of calendars in data. Their places are not
// of one piece.
func SplitCalendar(data []byte) (out []Piece) {
	splitCalendar(data, data, func(e calEntry) error {
		out = append(out, Piece{Name: e.uid, Value: e.value})
		return nil
	}, badPiece(&out))
	return out
}

// SplitNDJSON finds the lines in data.
func SplitNDJSON(data []byte) (out []Piece) {
	splitNDJSON(data, func(l line, value []byte) error {
		out = append(out, Piece{Start: l.start, End: l.end, Value: value})
		return nil
	}, badPiece(&out))
	return out
}

// SplitArray finds the elements of a JSON array, and how far it got.
func SplitArray(data []byte) (out [][]byte, end int, err error) {
	end, err = splitArray(data, func(_ int, value []byte) error {
		out = append(out, value)
		return nil
	})
	return out, end, err
}

// SplitCSV finds the header line and the rows in data; each value has the
// header in front.
func SplitCSV(data []byte) (out []Piece) {
	s := newCSV(data)
	header, fields, err := s.row()
	if header.line == 0 {
		return nil
	}
	if err != nil {
		return []Piece{{Start: 0, End: len(data), Bad: err}}
	}
	out = append(out, Piece{Start: header.start, End: header.end})
	s.rows(len(fields), func(row span, _ []string) error {
		value := append(header.of(data), row.of(data)...)
		out = append(out, Piece{Start: row.start, End: row.end, Value: value})
		return nil
	}, badPiece(&out))
	return out
}

// Lines returns the lines of data as the splitters see them.
func Lines(data []byte) (out []string) {
	s := newScanner(data)
	for l, ok := s.next(); ok; l, ok = s.next() {
		out = append(out, string(l.text))
	}
	return out
}

// DecodeText makes UTF-8 of data.
func DecodeText(data []byte) (text, raw []byte, err error) { return decodeText(data) }

const (
	Marker   = marker
	TempName = tempName
)

// Naming is how a DirWriter names the files of a tree.
type Naming struct{ naming }

func (n *Naming) Path(namespace, name, contentType string) string {
	return n.path(namespace, name, contentType)
}
