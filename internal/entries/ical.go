package entries

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

var (
	errCalGarbage = errors.New("text outside of a calendar")
	errCalLine    = errors.New("line in a calendar that is no property")
	errCalEnd     = errors.New("calendar without END:VCALENDAR: its complete entries are taken")
	errCalEmpty   = errors.New("calendar without entries")
	errCompNest   = errors.New("component with a BEGIN or END that does not match")
	errCompDeep   = errors.New("component nested too deep")
)

// maxNesting is chosen arbitrarily; an alarm in an event is two deep.
const maxNesting = 64

// component is a direct child of a calendar.
type component struct {
	span
	kind  string   // VEVENT, …
	uid   string   // empty if it has none
	recur string   // which recurrence it overrides; empty if none
	tzid  string   // of a VTIMEZONE
	zones []string // that it refers to
}

// calendar is a VCALENDAR.
type calendar struct {
	span
	begin, end span   // the lines that hold it; end is zero if it is missing
	header     []span // its own properties
	zones      []component
	zoneIndex  map[string][]int // TZID → zones
	comps      []component
	damaged    bool // something in it was reported
}

// calEntry is the components that share a UID: an event and its overrides.
type calEntry struct {
	span
	uid     string
	content []byte // of the components
	value   []byte
}

func (f *file) readCalendar() error {
	return splitCalendar(f.raw, f.data, func(e calEntry) error {
		return f.take(Calendar, e.uid, typeCalendar, e.value, e.content, e.line)
	}, f.problem)
}

// splitCalendar finds the entries of calendars. Each line of data is in an
// entry, in what is reported as bad, blank, or in a time zone that no entry
// refers to. raw is data as the file has it.
func splitCalendar(raw, data []byte, take func(calEntry) error, bad func(span, error)) error {
	cals, clean := parseCalendars(data, bad)
	for i := range cals {
		c := &cals[i]
		entries := c.entries(data)
		if len(entries) == 0 {
			bad(c.span, errCalEmpty)
			continue
		}
		if len(entries) == 1 && !c.damaged {
			entries[0].value = c.of(data)
			if clean && len(cals) == 1 {
				entries[0].value = raw
			}
		}
		for _, e := range entries {
			if e.value == nil {
				e.value = c.wrap(data, e.comps)
			}
			if err := take(e.calEntry); err != nil {
				return err
			}
		}
	}
	return nil
}

// parseCalendars finds the calendars and their components. It reports whether
// it found nothing bad.
func parseCalendars(data []byte, report func(span, error)) (cals []calendar, clean bool) {
	clean = true
	bad := func(s span, err error) {
		clean = false
		report(s, err)
	}
	var (
		s       = newScanner(data)
		garbage span      // lines outside of calendars, not yet reported
		cal     *calendar // open, or nil
		cur     component // open if stack is not empty
		nesting error     // what is wrong with cur
		stack   []string
	)
	flush := func() {
		if garbage.line != 0 {
			bad(garbage, errCalGarbage)
		}
		garbage = span{}
	}
	inCal := func(s span, err error) {
		cal.damaged = true
		bad(s, err)
	}
	endComp := func() {
		switch {
		case nesting != nil:
			inCal(cur.span, nesting)
		case cur.kind == "VTIMEZONE":
			if cal.zoneIndex == nil {
				cal.zoneIndex = make(map[string][]int)
			}
			cal.zoneIndex[cur.tzid] = append(cal.zoneIndex[cur.tzid], len(cal.zones))
			cal.zones = append(cal.zones, cur)
		default:
			cal.comps = append(cal.comps, cur)
		}
		stack = stack[:0]
	}
	cutComp := func() {
		nesting = fmt.Errorf("component without END:%s", cur.kind)
		endComp()
	}
	cutCal := func() {
		if len(stack) > 0 {
			cutComp()
		}
		inCal(cal.begin, errCalEnd)
		cal = nil
	}
	for {
		l, ok := s.next()
		if !ok {
			break
		}
		name, begin := boundary(l.text)
		var p property
		valid := false
		if cal != nil && name == "" {
			first := l.text
			l = s.unfold(l)
			// A folded BEGIN:VCALENDAR would not be seen outside of a calendar.
			if n, b := foldedBoundary(first, l.text); n != "VCALENDAR" || !b {
				name, begin = n, b
			}
			p, valid = parseProperty(l.text)
		}

		// What cannot be inside an open component says that its end is missing.
		if len(stack) > 0 && (name == "VCALENDAR" || begin && isTopLevel(name)) {
			cutComp()
		}
		if cal != nil && name == "VCALENDAR" && begin {
			cutCal()
		}

		switch {
		case cal == nil && name == "VCALENDAR" && begin:
			flush()
			cals = append(cals, calendar{span: l.span, begin: l.span})
			cal = &cals[len(cals)-1]
			continue

		case cal == nil:
			if !blank(l.text) {
				garbage = garbage.to(l.span)
			}
			continue
		}
		cal.span = cal.to(l.span)

		switch {
		case name == "VCALENDAR": // its END
			cal.end = l.span
			cal = nil

		case len(stack) == 0 && begin && name != "":
			cur, nesting = component{span: l.span, kind: name}, nil
			stack = append(stack, name)

		case len(stack) == 0 && name == "" && valid && p.name != "BEGIN" && p.name != "END":
			if n := len(cal.header); n > 0 && cal.header[n-1].end == l.start {
				cal.header[n-1] = cal.header[n-1].to(l.span)
			} else {
				cal.header = append(cal.header, l.span)
			}

		case len(stack) == 0:
			if !blank(l.text) {
				inCal(l.span, errCalLine)
			}

		case begin && name != "":
			cur.span = cur.to(l.span)
			if len(stack) < maxNesting {
				stack = append(stack, name)
			} else {
				nesting = errCompDeep
			}

		case name != "":
			cur.span = cur.to(l.span)
			top := len(stack) - 1
			switch {
			case stack[top] == name && top > 0:
				stack = stack[:top]
			case stack[top] == name:
				endComp()
			case stack[0] == name:
				nesting = errCompNest
				endComp()
			default:
				nesting = errCompNest
			}

		default:
			cur.span = cur.to(l.span)
			cur.note(p, len(stack) == 1)
		}
	}
	if cal != nil {
		cutCal()
	}
	flush()
	return cals, clean
}

func isTopLevel(name string) bool {
	switch name {
	case "VCALENDAR", "VEVENT", "VTODO", "VJOURNAL", "VFREEBUSY", "VTIMEZONE":
		return true
	}
	return false
}

// note remembers what a property says about its component. own is false in
// components inside the component.
func (c *component) note(p property, own bool) {
	if zone, ok := p.param("TZID"); ok && !slices.Contains(c.zones, zone) {
		c.zones = append(c.zones, zone)
	}
	switch {
	case !own:
	case p.name == "UID" && c.uid == "":
		c.uid = p.text()
	case p.name == "RECURRENCE-ID" && c.recur == "":
		c.recur = p.params + ":" + p.text()
	case p.name == "TZID" && c.tzid == "":
		c.tzid = p.text()
	}
}

// calGroup is an entry while it is put together.
type calGroup struct {
	calEntry
	comps []component
}

// entries groups the components by UID. A component that says something else
// about the same thing (one UID, one recurrence) begins a further entry.
func (c *calendar) entries(data []byte) []calGroup {
	type slot struct{ uid, kind, recur string }
	type said struct {
		slot
		sum [sha256.Size]byte
	}
	var (
		groups []calGroup
		byUID  = make(map[string][]int) // UID → groups, the n-th with the n-th component of each slot
		inSlot = make(map[slot]int)     // → components so far
		seen   = make(map[said]bool)
	)
	for _, comp := range c.comps {
		if comp.uid == "" {
			groups = append(groups, calGroup{calEntry{span: comp.span}, []component{comp}})
			continue
		}
		key := slot{comp.uid, comp.kind, comp.recur}
		what := said{key, sha256.Sum256(comp.of(data))}
		if seen[what] {
			continue
		}
		seen[what] = true
		n := inSlot[key]
		inSlot[key]++
		if n == len(byUID[comp.uid]) {
			byUID[comp.uid] = append(byUID[comp.uid], len(groups))
			groups = append(groups, calGroup{calEntry: calEntry{span: comp.span, uid: comp.uid}})
		}
		g := &groups[byUID[comp.uid][n]]
		g.comps = append(g.comps, comp)
	}
	for i := range groups {
		g := &groups[i]
		if len(g.comps) == 1 {
			g.content = g.comps[0].of(data)
			continue
		}
		for _, comp := range g.comps {
			g.content = append(g.content, comp.of(data)...)
		}
	}
	return groups
}

// wrap returns a calendar with these components of c.
func (c *calendar) wrap(data []byte, comps []component) []byte {
	begin := c.begin.of(data)
	eol := []byte("\n")
	switch {
	case bytes.HasSuffix(begin, []byte("\r\n")):
		eol = []byte("\r\n")
	case bytes.HasSuffix(begin, []byte("\r")):
		eol = []byte("\r")
	}
	// Only the last line of a calendar that is cut off has no end.
	v := bytes.Clone(begin)
	add := func(s span) {
		if v = append(v, s.of(data)...); v[len(v)-1] != eol[len(eol)-1] {
			v = append(v, eol...)
		}
	}
	for _, h := range c.header {
		add(h)
	}
	var used []int
	for _, comp := range comps {
		for _, tzid := range comp.zones {
			used = append(used, c.zoneIndex[tzid]...)
		}
	}
	slices.Sort(used)
	for _, i := range slices.Compact(used) {
		add(c.zones[i].span)
	}
	for _, comp := range comps {
		add(comp.span)
	}
	if c.end.line != 0 {
		return append(v, c.end.of(data)...)
	}
	return append(append(v, "END:VCALENDAR"...), eol...)
}
