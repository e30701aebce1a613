package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/profiler/process"
)

// FilesOptions are the arguments of files, which are those of lsof.
type filesOptions struct {
	selection process.Selection
	words     []string // that are no flags

	pidsOnly, offsets, peers, asJSON, watch, help bool
	repeat, interval, length                      time.Duration
}

// ParseFilesArgs reads arguments as lsof does: a flag's value may follow at once or as the next argument,
// flags without one may be written together, "+D" is a flag, and all after "--" are words.
func parseFilesArgs(args []string) (*filesOptions, error) {
	o := &filesOptions{interval: leakEvery}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			o.words = append(o.words, args...)
			return o, nil
		case strings.HasPrefix(arg, "--"):
			rest, err := o.long(arg[2:], args)
			if err != nil {
				return nil, err
			}
			args = rest
		case len(arg) > 1 && (arg[0] == '-' || arg[0] == '+'):
			rest, err := o.short(arg, args)
			if err != nil {
				return nil, err
			}
			args = rest
		default:
			o.words = append(o.words, arg)
		}
	}
	return o, nil
}

func unknownFlag(name string) error {
	return fmt.Errorf("unknown flag: %s; see `sightline files --help`", name)
}

// Long reads a flag of two dashes, and answers the arguments behind it.
func (o *filesOptions) long(flag string, rest []string) ([]string, error) {
	name, value, has := strings.Cut(flag, "=")
	on := func(to *bool) error {
		if !has {
			*to = true
			return nil
		}
		b, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("--%s: %q is neither true nor false", name, value)
		}
		*to = b
		return nil
	}
	span := func(to *time.Duration) error {
		if !has {
			if len(rest) == 0 {
				return fmt.Errorf("--%s needs a time, such as 2s", name)
			}
			value, rest = rest[0], rest[1:]
		}
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 || d > 30*24*time.Hour {
			return fmt.Errorf("--%s: %q is no time such as 500ms or 2s", name, value)
		}
		*to = d
		return nil
	}
	switch name {
	case "help":
		return rest, on(&o.help)
	case "json":
		return rest, on(&o.asJSON)
	case "watch":
		return rest, on(&o.watch)
	case "peers":
		return rest, on(&o.peers)
	case "interval":
		return restOf(&rest, span(&o.interval))
	case "for":
		return restOf(&rest, span(&o.length))
	case "store", "workspace": // of all commands; there is nothing that they could mean here
		if !has && len(rest) > 0 {
			rest = rest[1:]
		}
		return rest, nil
	}
	return nil, unknownFlag("--" + name)
}

func restOf(rest *[]string, err error) ([]string, error) { return *rest, err }

// Short reads the flags of one argument of lsof's, and answers the arguments behind it.
func (o *filesOptions) short(arg string, rest []string) ([]string, error) {
	sign, flags := arg[0], arg[1:]
	s := &o.selection
	for len(flags) > 0 {
		c := flags[0]
		flags = flags[1:]
		flag := string([]byte{sign, c})
		// The value is what follows in the argument, or the next argument.
		value := func(what string) (string, error) {
			v := flags
			flags = ""
			if v == "" {
				if len(rest) == 0 {
					return "", fmt.Errorf("%s needs %s", flag, what)
				}
				v, rest = rest[0], rest[1:]
			}
			return v, nil
		}
		// The same where it may be left out: an argument that looks like a flag or a word is none.
		optional := func(fits func(string) bool) string {
			v := flags
			flags = ""
			if v == "" && len(rest) > 0 && fits(rest[0]) {
				v, rest = rest[0], rest[1:]
			}
			return v
		}
		var v string
		var err error
		switch flag {
		case "-h", "-?":
			o.help = true
		case "-a":
			s.And = true
		case "-t":
			o.pidsOnly = true
		case "-o":
			o.offsets = true
		case "-U":
			s.Unix = true
		case "+E", "-E":
			o.peers = true
			flags = strings.TrimLeft(flags, "E")
		case "-n", "-P", "-w", "-l", "-b", "-O", "-R", "-V", "-X", "+w":
			// Names of hosts and ports are never looked up, nor is anything else waited for.
		case "-K":
			optional(func(next string) bool { return next == "i" }) // threads share what a process has open
		case "-p":
			if v, err = value("numbers of processes, such as 1,2"); err == nil {
				err = eachWord(v, func(word string, not bool) error {
					pid, err := strconv.ParseUint(word, 10, 31)
					if err != nil {
						return fmt.Errorf("-p %s: %q is no number of a process", v, word)
					}
					if not {
						s.NotPIDs = append(s.NotPIDs, int(pid))
					} else {
						s.PIDs = append(s.PIDs, int(pid))
					}
					return nil
				})
			}
		case "-c":
			if v, err = value("the beginning of a command's name, or /re/"); err == nil {
				word, not := strings.CutPrefix(v, "^")
				var p *process.CommandPattern
				if p, err = process.ParseCommand(word); err == nil && not {
					s.NotCommands = append(s.NotCommands, p)
				} else if err == nil {
					s.Commands = append(s.Commands, p)
				}
			}
		case "-u":
			if v, err = value("names of users, such as me,^root"); err == nil {
				err = eachWord(v, func(word string, not bool) error {
					uid, err := process.ParseUser(word)
					if not {
						s.NotUsers = append(s.NotUsers, uid)
					} else {
						s.Users = append(s.Users, uid)
					}
					return err
				})
			}
		case "-d":
			if v, err = value("descriptors, such as 0-2,txt"); err == nil {
				var all, not []process.FDRange
				if all, not, err = process.ParseFDs(v); err == nil {
					s.FDs, s.NotFDs = append(s.FDs, all...), append(s.NotFDs, not...)
				}
			}
		case "-i":
			v = optional(func(next string) bool {
				_, err := process.ParseInternet(next)
				_, numberErr := strconv.Atoi(next)
				return err == nil && !strings.HasPrefix(next, "-") && (numberErr != nil || next == "4" || next == "6") && next != ""
			})
			var x process.Internet
			if x, err = process.ParseInternet(v); err == nil {
				s.Internet = append(s.Internet, x)
			}
		case "-s":
			if v, err = value("a protocol and its states, such as TCP:LISTEN"); err == nil {
				err = o.states(v)
			}
		case "+L", "-L":
			v = optional(func(next string) bool { _, err := strconv.Atoi(next); return err == nil })
			if v != "" && sign == '+' {
				if s.Links, err = strconv.ParseInt(v, 10, 32); err != nil || s.Links < 1 {
					err = fmt.Errorf("+L%s: give a number of links from 1 on: +L1 are files without a name", v)
				}
			}
		case "+D", "+d":
			if v, err = value("a folder"); err == nil {
				var p process.PathPattern
				if p, err = process.ParsePath(v, true, c == 'D'); err == nil {
					s.Paths = append(s.Paths, p)
				}
			}
		case "-r", "+r":
			o.repeat = 15 * time.Second // as lsof
			if v = optional(func(next string) bool { _, err := strconv.ParseFloat(next, 64); return err == nil }); v != "" {
				seconds, parseErr := strconv.ParseFloat(v, 64)
				if parseErr != nil || !(seconds > 0 && seconds < 1e6) {
					err = fmt.Errorf("%s%s: give seconds between looks", flag, v)
				}
				o.repeat = time.Duration(seconds * float64(time.Second))
			}
		default:
			return nil, unknownFlag(flag)
		}
		if err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// EachWord reads a list with commas, whose words "^" may stand before.
func eachWord(list string, do func(word string, not bool) error) error {
	for word := range strings.SplitSeq(list, ",") {
		word, not := strings.CutPrefix(word, "^")
		if err := do(word, not); err != nil {
			return err
		}
	}
	return nil
}

// States reads "TCP:LISTEN,^CLOSE_WAIT".
func (o *filesOptions) states(text string) error {
	protocol, list, ok := strings.Cut(text, ":")
	protocol = strings.ToUpper(protocol)
	if !ok || list == "" || protocol != "TCP" && protocol != "UDP" {
		return fmt.Errorf("-s%s: say a protocol and its states, such as TCP:LISTEN", text)
	}
	s := &o.selection
	return eachWord(list, func(word string, not bool) error {
		state := strings.ToUpper(word)
		// As other systems spell them.
		if other, ok := map[string]string{"CLOSE": "CLOSED", "FIN_WAIT_1": "FIN_WAIT1", "FIN_WAIT_2": "FIN_WAIT2"}[state]; ok {
			state = other
		}
		if protocol == "TCP" && !slices.Contains(process.TCPStates(), state) {
			return fmt.Errorf("-s%s: TCP has no state %q; it has %s", text, word, strings.Join(process.TCPStates(), ", "))
		}
		to := &s.States
		if not {
			to = &s.NotStates
		}
		if *to == nil {
			*to = map[string][]string{}
		}
		(*to)[protocol] = append((*to)[protocol], state)
		return nil
	})
}

// Word is what a word without a flag selects.
func (o *filesOptions) word(ctx context.Context, word string) error {
	s := &o.selection
	if port, ok := strings.CutPrefix(word, ":"); ok && port != "" {
		x, err := process.ParseInternet(word)
		if err == nil {
			s.Internet = append(s.Internet, x)
		}
		return err
	}
	if word == "" {
		return errors.New("list open files: an empty word names nothing; give a process, a path or :PORT")
	}
	pids, err := processesCalled(ctx, []string{word}, false)
	if err == nil && !strings.Contains(word, "/") {
		s.PIDs = append(s.PIDs, pids...)
		return nil
	}
	if _, statErr := os.Stat(word); statErr == nil {
		p, err := process.ParsePath(word, false, false)
		if err == nil {
			s.Paths = append(s.Paths, p)
		}
		return err
	} else if strings.Contains(word, "/") {
		return fmt.Errorf("list who has %s open: %w", process.Printable(word), errors.Unwrap(statErr))
	}
	if _, numberErr := strconv.Atoi(word); numberErr == nil {
		return err
	}
	return fmt.Errorf("list open files: there is neither a process called %s nor a file of this name here", process.Printable(word))
}
