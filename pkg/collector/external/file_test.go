package external

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProblemsOfFiles(t *testing.T) {
	t.Parallel()
	const rest = "command: [true]\nstreams: [{name: hr_people}]\n"
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"empty":         {text: "", want: []string{"hr.yaml: the file is empty: want the keys of a collector, such as name, command and streams"}},
		"not YAML":      {text: "name: hr\n\t- x", want: []string{"hr.yaml:2: found a tab character that violates indentation"}},
		"list":          {text: "- a", want: []string{"hr.yaml:1: want the keys of a collector, such as name, command and streams"}},
		"unknown key":   {text: "name: hr\ncomand: [true]\n" + rest, want: []string{"hr.yaml:2: unknown key comand: did you mean command?"}},
		"twice":         {text: "name: hr\nname: hs\n" + rest, want: []string{"hr.yaml:2: name is there twice"}},
		"no name":       {text: rest, want: []string{`hr.yaml:1: name: "" is not a name: want 1 to 48 small letters, digits and _, the first a letter`}},
		"bad name":      {text: "name: HR\n" + rest, want: []string{`hr.yaml:1: name: "HR" is not a name: want 1 to 48 small letters, digits and _, the first a letter`}},
		"view":          {text: "name: hr\ncommand: [true]\nstreams: [{name: hr_latest}]\n", want: []string{"hr.yaml:3: streams: hr_latest ends with _latest, as the views of tables do: choose another name"}},
		"setting":       {text: "name: tz\n" + rest, want: []string{"hr.yaml:1: name: SCHEDULE_TZ is a setting of collectord: choose another name than tz"}},
		"two documents": {text: "name: hr\n" + rest + "---\nname: it\n" + rest, want: []string{"hr.yaml: it has several documents: want a file for each collector"}},
		"no command":    {text: "name: hr\nstreams: [{name: hr_people}]\n", want: []string{"hr.yaml:1: command: want a list, such as [/usr/local/bin/hr-people, --all]"}},
		"shell command": {text: "name: hr\ncommand: hr --all\nstreams: [{name: hr_people}]\n", want: []string{"hr.yaml:2: command: want a list", "hr.yaml:2: command: want a list, such as [/usr/local/bin/hr-people, --all]"}},
		"no streams":    {text: "name: hr\ncommand: [true]\n", want: []string{"hr.yaml:1: streams: want a list of streams, each with a name"}},
		"stream twice":  {text: "name: hr\ncommand: [true]\nstreams: [{name: hr_a}, {name: hr_a}]\n", want: []string{"hr.yaml:3: streams: hr_a is there twice"}},
		"stream key":    {text: "name: hr\ncommand: [true]\nstreams:\n- name: hr_a\n  nmae: x\n", want: []string{"hr.yaml:5: unknown key nmae: did you mean name?"}},
		"durations":     {text: "name: hr\ntimeout: 5\nidle_timeout: 10ms\n" + rest, want: []string{`hr.yaml:2: timeout is "5": want a duration from 1s to 8760h, such as 90s, 15m or 6h`, `hr.yaml:3: idle_timeout is "10ms": want a duration from 1s to 8760h, such as 90s, 15m or 6h`}},
		"memory":        {text: "name: hr\nmemory: 1MiB\n" + rest, want: []string{`hr.yaml:2: memory is "1MiB": want a size from 64MiB to 1024GiB, such as 1GiB`}},
		"protocol":      {text: "name: hr\nprotocol: csv\n" + rest, want: []string{`hr.yaml:2: protocol is "csv": want lines or singer`}},
		"directory":     {text: "name: hr\nworking_directory: data\n" + rest, want: []string{`hr.yaml:2: working_directory is "data": want a path that begins with /`}},
		"variables": {text: "name: hr\nvariables:\n- hr_token\n- HR_TOKEN_FILE\n- STORE_POSTGRES_PASSWORD\n- HR_A\n- HR_A\n- {name: HR_B, secret: maybe}\n" + rest, want: []string{
			`hr.yaml:3: variables: "hr_token" is not a name: want capital letters, digits and _, such as HR_TOKEN`,
			"hr.yaml:4: variables: HR_TOKEN_FILE ends with _FILE, which names the file of a value: write HR_TOKEN, which HR_TOKEN_FILE sets as well",
			"hr.yaml:5: variables: STORE_POSTGRES_PASSWORD is a variable of collectord: choose another name",
			"hr.yaml:7: variables: HR_A is there twice",
			`hr.yaml:8: secret is "maybe": want true or false`,
		}},
		"upper limits": {text: "name: hr\ntimeout: 9000h\nmemory: 2048GiB\n" + rest, want: []string{`hr.yaml:2: timeout is "9000h": want a duration from 1s to 8760h, such as 90s, 15m or 6h`, `hr.yaml:3: memory is "2048GiB": want a size from 64MiB to 1024GiB, such as 1GiB`}},
		"null":         {text: "name: hr\ncommand: [sh, null]\nstreams: [{name: hr_people}]\n", want: []string{`hr.yaml:2: command: an entry of the list is empty (null): remove it, or write "" for an empty text`}},
		"NUL":          {text: "name: hr\ncommand: [sh, \"a\\0b\"]\nstreams: [{name: hr_people}]\n", want: []string{`hr.yaml:2: command: "a\x00b" has a NUL character, which no argument of a program can have`}},
		"reserved variables": {text: "name: hr\nvariables:\n- HOME\n- LD_PRELOAD\n- AWS_ACCESS_KEY_ID\n- PGPASSWORD\n- TENANCY\n- SCHEDULE_HR\n- HTTPS_PROXY\n- OKTA_TOKEN\n" + rest, want: []string{
			"hr.yaml:3: variables: HOME is set by collectord for each run: let a script that starts the program set another value",
			"hr.yaml:4: variables: LD_PRELOAD changes which code programs load: let a script that starts the program set it",
			"hr.yaml:5: variables: AWS_ACCESS_KEY_ID is what the destinations, the backup and the traces of collectord use: choose another name, such as MY_AWS_ACCESS_KEY_ID, and let a script that starts the program rename it",
			"hr.yaml:6: variables: PGPASSWORD is what the destinations, the backup and the traces of collectord use: choose another name, such as MY_PGPASSWORD, and let a script that starts the program rename it",
			"hr.yaml:7: variables: TENANCY is a variable of collectord: choose another name",
			"hr.yaml:8: variables: SCHEDULE_HR is a variable of collectord: choose another name",
		}},
		"singer values":   {text: "name: hr\nprotocol: singer\nsinger:\n  config:\n    a: 1\n    b: .inf\n" + rest, want: []string{`hr.yaml:6: config: ".inf" has no form in JSON: write a number, true, false, null, or a text in quotes`}},
		"singer twice":    {text: "name: hr\nprotocol: singer\nsinger:\n  config:\n    a: 1\n    a: 2\n" + rest, want: []string{"hr.yaml:6: config: a is there twice"}},
		"singer number":   {text: "name: hr\nprotocol: singer\nsinger:\n  config:\n    port: !!int abc\n" + rest, want: []string{`hr.yaml:5: config: "abc" has no form in JSON: write a number, true, false, null, or a text in quotes`}},
		"singer":          {text: "name: hr\nsinger: {catalog: x}\n" + rest, want: []string{"hr.yaml:2: singer is for protocol: singer"}},
		"tap stream":      {text: "name: hr\ncommand: [true]\nstreams: [{name: hr_a, tap_stream: a}]\n", want: []string{"hr.yaml:3: tap_stream is for protocol: singer"}},
		"singer variable": {text: "name: hr\nprotocol: singer\nsinger: {config: {key: '${HR_TOKEN}'}}\n" + rest, want: []string{"hr.yaml:3: config: ${HR_TOKEN} is not among the variables of the file: add it to variables"}},
		"taken":           {text: "name: okta\ncommand: [true]\nstreams: [{name: okta_users}]\n", want: []string{"hr.yaml: the name okta is used by collectord itself: choose another", "hr.yaml: the name okta_users is used by collectord itself: choose another"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, problems := Load(writeFiles(t, map[string]string{"hr.yaml": tc.text}), Reserved{Names: []string{"okta", "okta_users"}, Variables: []string{"TENANCY"}}, nil)
			var got []string
			for _, p := range problems {
				got = append(got, p.Setting().Message)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || len(files) > 0 {
				t.Errorf("%d files, and problems (-want +got):\n%s", len(files), diff)
			}
		})
	}
}

// TestLoadReadsFilesByName: other files are left alone, and of two files with one name the
// second has a problem.
func TestLoadReadsFilesByName(t *testing.T) {
	t.Parallel()
	const text = "name: %\ncommand: [true]\nstreams: [{name: %_people}]\n"
	dir := writeFiles(t, map[string]string{
		"b.yml": strings.ReplaceAll(text, "%", "hr"), "a.yaml": strings.ReplaceAll(text, "%", "it"), "c.yaml": strings.ReplaceAll(text, "%", "hr"),
		"README.md": "x", ".hidden.yaml": "x", "tap.json": "{}",
	})
	files, problems := Load(dir, Reserved{}, nil)
	var names []string
	for _, f := range files {
		names = append(names, f.Collector())
	}
	if diff := cmp.Diff([]string{"it", "hr"}, names); diff != "" {
		t.Error(diff)
	}
	if len(problems) != 2 || problems[0].Setting().Error() != "EXEC_DIR: c.yaml: the name hr is used by b.yml: choose another" {
		t.Errorf("%v", problems)
	}
	// A new file does not take the names of one that is in force.
	_, problems = Load(dir, Reserved{}, []*File{{Name: "c.yaml"}})
	if len(problems) != 2 || problems[0].Setting().Error() != "EXEC_DIR: b.yml: the name hr is used by c.yaml: choose another" {
		t.Errorf("with c.yaml in force: %v", problems)
	}
	if _, problems := Load(filepath.Join(dir, "none"), Reserved{}, nil); len(problems) != 1 || !strings.Contains(problems[0].Text, "want the directory") {
		t.Errorf("%v", problems)
	}
	if _, problems := Load(filepath.Join(dir, "README.md"), Reserved{}, nil); len(problems) != 1 || !strings.Contains(problems[0].Text, "is a file") {
		t.Errorf("%v", problems)
	}
}

// TestFilesThatOthersCanChange: whoever can change a file or its program runs programs as
// the user of the service.
func TestFilesThatOthersCanChange(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		changed     string
		mode        os.FileMode
		wantProblem string
		wantCaution string
	}{
		"private":         {changed: "hr.yaml", mode: 0o600},
		"file":            {changed: "hr.yaml", mode: 0o602, wantProblem: "anyone on this machine can change"},
		"directory":       {changed: ".", mode: 0o703, wantProblem: "anyone on this machine can change"},
		"group":           {changed: "hr.yaml", mode: 0o660, wantCaution: "EXEC_DIR: hr.yaml: its group can change"},
		"program":         {changed: "hr", mode: 0o702, wantCaution: "EXEC_DIR: hr.yaml: command: anyone on this machine can change"},
		"script":          {changed: "script", mode: 0o602, wantCaution: "EXEC_DIR: hr.yaml: command: anyone on this machine can change"},
		"no permission":   {changed: "hr", mode: 0o600, wantCaution: "is not executable: run chmod a+x"},
		"sticky":          {changed: ".", mode: 0o703 | os.ModeSticky},
		"program is gone": {wantCaution: "does not exist: install the program, or correct the path"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := writeFiles(t, map[string]string{"hr": "#!/bin/sh\n", "script": ""})
			text := "name: hr\ncommand: [./hr, " + dir + "/script]\nstreams: [{name: hr_people}]\n"
			if err := os.WriteFile(filepath.Join(dir, "hr.yaml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Join(dir, "hr"), 0o700); err != nil {
				t.Fatal(err)
			}
			if tc.changed == "" {
				if err := os.Remove(filepath.Join(dir, "hr")); err != nil {
					t.Fatal(err)
				}
			} else if err := os.Chmod(filepath.Join(dir, tc.changed), tc.mode); err != nil {
				t.Fatal(err)
			}
			files, problems := Load(dir, Reserved{}, nil)
			if tc.wantProblem != "" {
				if len(problems) != 1 || !strings.Contains(problems[0].Text, tc.wantProblem) {
					t.Errorf("%v, want %q", problems, tc.wantProblem)
				}
				return
			}
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			if got := strings.Join(files[0].Cautions(), "\n"); !strings.Contains(got, tc.wantCaution) || tc.wantCaution == "" && got != "" {
				t.Errorf("%q, want %q", got, tc.wantCaution)
			}
		})
	}
}

// TestWorkingDirectory: a directory in which the program cannot run is reported by the
// checks and by the run.
func TestWorkingDirectory(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, map[string]string{"file": ""})
	for path, want := range map[string]string{
		dir:           "",
		dir + "/none": "working_directory: " + dir + "/none does not exist: create it, or correct the path",
		dir + "/file": "working_directory: " + dir + "/file is a file: want a directory",
	} {
		f, section := loadOne(t, script("streams: [{name: hr_people}]\nworking_directory: "+path+"\n", `echo '{"_end": {"hr_people": 0}}'`))
		cautions := strings.Join(f.Cautions(), "\n")
		e := extractStreams(t.Context(), t, f, section)
		if want == "" {
			e.requireRecords(t, map[string][]string{"hr_people": nil})
		} else {
			e.requireError(t, want)
		}
		if !strings.Contains(cautions, want) || want == "" && cautions != "" {
			t.Errorf("cautions %q, want %q", cautions, want)
		}
	}
}

// TestNearMisses: a file that looks like that of a collector and is not read is reported,
// unless it was set aside.
func TestNearMisses(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for _, name := range []string{
		"a.yaml", "b.YML", // read
		"c.yaml.txt", "d.ymal", "e.yml-new", "f.yaml (copy)",
		"g.yaml~", "h.yml.bak", ".i.yaml.swp", "#j.yaml#", "k.yaml.disabled", "l.yaml.rpmnew", "m.yml.dpkg-old", // set aside
		"README.md", "tap.json", "run.py", // others
	} {
		files[name] = ""
	}
	dir := writeFiles(t, files)
	if err := os.Mkdir(filepath.Join(dir, "n.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"EXEC_DIR: c.yaml.txt is not read: the name of a file ends in .yml or .yaml",
		"EXEC_DIR: d.ymal is not read: the name of a file ends in .yml or .yaml",
		"EXEC_DIR: e.yml-new is not read: the name of a file ends in .yml or .yaml",
		"EXEC_DIR: f.yaml (copy) is not read: the name of a file ends in .yml or .yaml",
		"EXEC_DIR: n.yaml is not read: it is a directory, want a file",
	}
	if diff := cmp.Diff(want, NearMisses(dir)); diff != "" {
		t.Error(diff)
	}
}
