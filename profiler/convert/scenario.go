package convert

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A Scenario is one of several captures that are looked at together.
type Scenario struct {
	Name string
	File string // path of a stack file of PerfView, beginning with the folder given to ReadScenarioSet
}

// IsScenarioSet tells by its name whether a file is a scenario set: by content it is as good as
// empty, so that Read cannot recognize it.
func IsScenarioSet(name string) bool {
	return strings.HasSuffix(strings.ToLower(name), ".scenarioset.xml")
}

// maxScenarioSet bounds the file, which is written by hand.
const maxScenarioSet = 1 << 20

// ReadScenarioSet reads a `.scenarioSet.xml` of PerfView and finds the files it names:
//
//	<ScenarioSet>
//	  <Scenarios files="runs\*.perfView.xml.zip" namePattern="run $1" includePattern="a" excludePattern="b"/>
//	</ScenarioSet>
//
// files, which must end in .perfView.xml or .perfView.xml.zip, is relative to dir, the folder of the
// set; what is before its last slash is a folder, in which files are searched at any depth. Each `*` and
// `?` stands for characters of one name, and each `*` is a group for namePattern ($1, $2; by default
// "scenario $1"), which without a `*` has the name of the file without its extension as $1.
// includePattern and excludePattern are regular expressions over the whole path. Upper and lower case
// are the same in files, not in these.
//
// A later file takes the place of an earlier one of the same name. Files of one element come in order
// of their paths. A set without any file is refused. That is DeserializeConfig of PerfView's
// src/PerfView/PerfViewData.cs, but for the slashes: there they are only \, here also /.
//
// Find lists the paths of all files below a folder, each beginning with that folder; nil is the file
// system.
func ReadScenarioSet(r io.Reader, dir string, find func(dir string) ([]string, error)) ([]Scenario, error) {
	if find == nil {
		find = filesBelow
	}
	all, err := readScenarioSet(r, dir, find)
	if err != nil {
		return nil, fmt.Errorf("read the scenario set: %w", err)
	}
	return all, nil
}

func readScenarioSet(r io.Reader, dir string, find func(string) ([]string, error)) ([]Scenario, error) {
	head := io.LimitReader(r, maxScenarioSet+1)
	data, err := io.ReadAll(head)
	if err != nil {
		return nil, err
	}
	if len(data) > maxScenarioSet {
		return nil, fmt.Errorf("it is larger than %d bytes, which no set is", maxScenarioSet)
	}
	s := newXMLScanner(strings.NewReader(strings.TrimPrefix(string(data), "\uFEFF")))
	var all []Scenario
	found, within := false, false
	for {
		event, err := s.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		switch {
		case event == xmlStart && string(s.name) == "ScenarioSet":
			within = true
		case event == xmlEnd && string(s.name) == "ScenarioSet":
			within = false
		case event == xmlStart && within && string(s.name) == "Scenarios":
			found = true
			x, err := scenariosOf(s)
			if err != nil {
				return nil, s.errorf("%w", err)
			}
			if all, err = x.add(all, dir, find); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case !found:
		return nil, errors.New("it has no <Scenarios> in a <ScenarioSet>")
	case len(all) == 0:
		return nil, fmt.Errorf("no file in %s is what it asks for", dir)
	}
	return all, nil
}

// scenarios is an element of the set.
type scenarios struct {
	files            string // with slashes
	name             string
	include, exclude *regexp.Regexp
	match            *regexp.Regexp // of files, with a group for each *
}

func scenariosOf(s *xmlScanner) (*scenarios, error) {
	x := &scenarios{files: strings.ReplaceAll(string(s.attr("files")), `\`, "/"), name: "scenario $1"}
	if x.files == "" {
		return nil, errors.New("<Scenarios> needs files")
	}
	if scenarioBase(x.files) == x.files {
		return nil, fmt.Errorf("files is %.60q; it must end in .perfView.xml or .perfView.xml.zip", x.files)
	}
	if v := s.attr("namePattern"); v != nil {
		x.name = string(v)
	}
	for _, a := range [...]struct {
		name string
		to   **regexp.Regexp
	}{{"includePattern", &x.include}, {"excludePattern", &x.exclude}} {
		v := s.attr(a.name)
		if v == nil {
			continue
		}
		re, err := regexp.Compile(string(v))
		if err != nil {
			return nil, fmt.Errorf("%s is no regular expression: %w", a.name, err)
		}
		*a.to = re
	}
	pattern := regexp.QuoteMeta(x.files[strings.LastIndexByte(x.files, '/')+1:])
	pattern = strings.NewReplacer(`\*`, `([^/]*)`, `\?`, `[^/]`).Replace(pattern)
	var err error
	if x.match, err = regexp.Compile(`(?is)^` + pattern + `$`); err != nil {
		return nil, fmt.Errorf("files is no pattern: %w", err)
	}
	return x, nil
}

// scenarioBase is a path without the extension of a stack file.
func scenarioBase(file string) string {
	lower := strings.ToLower(file)
	for _, ext := range []string{".perfview.xml", ".perfview.xml.zip"} {
		if strings.HasSuffix(lower, ext) {
			return file[:len(file)-len(ext)]
		}
	}
	return file
}

// add finds the files.
func (x *scenarios) add(all []Scenario, dir string, find func(string) ([]string, error)) ([]Scenario, error) {
	folder := path.Dir(x.files)
	if strings.ContainsAny(folder, "*?") {
		return nil, fmt.Errorf("files is %.60q; only its last part may have * and ?", x.files)
	}
	if !path.IsAbs(folder) {
		folder = filepath.Join(dir, filepath.FromSlash(folder))
	}
	files, err := find(folder)
	if err != nil {
		return nil, err
	}
	files = slices.Clone(files)
	slices.Sort(files)
	for _, file := range files {
		groups := x.match.FindStringSubmatch(filepath.Base(file))
		if groups == nil || x.include != nil && !x.include.MatchString(file) || x.exclude != nil && x.exclude.MatchString(file) {
			continue
		}
		if len(groups) == 1 {
			groups = append(groups, scenarioBase(filepath.Base(file)))
		}
		name := expand(x.name, groups)
		at := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
		if at < 0 {
			all = append(all, Scenario{Name: name})
			at = len(all) - 1
		}
		all[at].File = file
	}
	return all, nil
}

// expand replaces $1, ${1}, $0, $& and $$ in a pattern; a group that does not exist stays as it is,
// as in .NET.
func expand(pattern string, groups []string) string {
	var out strings.Builder
	for {
		before, after, ok := strings.Cut(pattern, "$")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		digits := after
		brace := strings.HasPrefix(after, "{")
		if brace {
			digits = after[1:]
		}
		n := 0
		for n < len(digits) && n < 3 && digits[n] >= '0' && digits[n] <= '9' {
			n++
		}
		group := 0
		for _, c := range digits[:n] {
			group = 10*group + int(c-'0')
		}
		switch {
		case strings.HasPrefix(after, "$"):
			out.WriteByte('$')
			pattern = after[1:]
		case strings.HasPrefix(after, "&"):
			out.WriteString(groups[0])
			pattern = after[1:]
		case n == 0 || group >= len(groups) || brace && !strings.HasPrefix(digits[n:], "}"):
			out.WriteByte('$')
			pattern = after
		default:
			out.WriteString(groups[group])
			if pattern = digits[n:]; brace {
				pattern = pattern[1:]
			}
		}
	}
}

// filesBelow walks the file system. It follows no links, so it ends.
func filesBelow(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil && path == dir:
			return err
		case err != nil: // a folder that may not be read hides its files, and no others
			return nil
		case !e.IsDir():
			files = append(files, path)
		}
		return nil
	})
	return files, err
}
