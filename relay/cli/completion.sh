#!/bin/sh
# Completion of the command line, made from the program's own help: completion.sh BINARY bash|zsh
#
# So it cannot lag behind.  From "--format FORMAT  print: plain (default), flyway or goose" it takes that FORMAT is one of
# three words; FILE and DIR are completed as such, everything else is left to the person.
set -eu

binary=$1
shell=$2

# A line for each command, its words and its options:
#   command NAME SUMMARY / words NAME WORD... / option NAME OPTION ARGUMENT CHOICES HELP (separated by tabs)
describe()
{
	"$binary" --help | awk '
		/^Commands:/ { inside = 1; next }
		/^$/ { inside = 0 }
		inside { name = $1; sub(/^ *[^ ]+ +/, ""); print "command\t" name "\t" $0 }' |
	while IFS="$(printf '\t')" read -r kind name summary; do
		printf '%s\t%s\t%s\n' "$kind" "$name" "$summary"
		"$binary" "$name" --help | awk -v name="$name" '
			/^Usage:/ {
				sub(/^.*\[OPTION\]\.\.\. ?/, "")
				if (match($0, /^[a-z|]+/)) {
					words = substr($0, 1, RLENGTH)
					gsub(/\|/, " ", words)
					print "words\t" name "\t" words
				}
			}
			/^ +(-[a-z], )?--[a-z]/ {
				match($0, /--[a-z-]+/)
				option = substr($0, RSTART, RLENGTH)
				help = substr($0, RSTART + RLENGTH)
				argument = choices = "-"
				if (match(help, /^ [A-Z]+ /)) {
					argument = substr(help, 2, RLENGTH - 2)
					help = substr(help, RLENGTH)
				}
				sub(/^ +/, "", help)
				said = help
				sub(/^[a-z, ]+: /, "", said)
				gsub(/ \(default\)/, "", said)
				if (argument != "-" && said ~ /^[a-z]+(, [a-z]+)* or [a-z]+$/) {
					gsub(/,? or |, /, " ", said)
					choices = said
				}
				printf "option\t%s\t%s\t%s\t%s\t%s\n", name, option, argument, choices, help
			}'
	done
}

bash_completion()
{
	describe | awk -F '\t' '
		BEGIN {
			print "# Completion of outbox-relay for bash, made from its help."
			print "_outbox_relay()"
			print "{"
		}
		$1 == "command" { commands = commands (commands == "" ? "" : " ") $2; order[++count] = $2 }
		$1 == "words" { words[$2] = $3 }
		$1 == "option" {
			options[$2] = options[$2] (options[$2] == "" ? "" : " ") $3
			if ($4 == "FILE" || $4 == "DIR")
				kinds[$2] = kinds[$2] "\t\t" $3 ") kind=" tolower($4) " ;;\n"
			else if ($5 != "-")
				kinds[$2] = kinds[$2] "\t\t" $3 ") kind=words choices=\"" $5 "\" ;;\n"
			else if ($4 != "-")
				free[$2] = free[$2] (free[$2] == "" ? "" : "|") $3
		}
		END {
			print "\tlocal current=${COMP_WORDS[COMP_CWORD]} option= command= at=-1 i word kind= choices= options= words="
			print "\n\tCOMPREPLY=()"
			print "\t# The shell takes --option=value apart."
			print "\tif [ \"$current\" = = ]; then"
			print "\t\tcurrent= option=${COMP_WORDS[COMP_CWORD-1]}"
			print "\telif [ \"$COMP_CWORD\" -gt 2 ] && [ \"${COMP_WORDS[COMP_CWORD-1]}\" = = ]; then"
			print "\t\toption=${COMP_WORDS[COMP_CWORD-2]}"
			print "\telse"
			print "\t\toption=${COMP_WORDS[COMP_CWORD-1]}"
			print "\tfi"
			print "\t[ \"$option\" != -c ] || option=--config"
			print "\tfor ((i = 1; i < COMP_CWORD; i++)); do"
			print "\t\tword=${COMP_WORDS[i]}"
			print "\t\tif [ -z \"$command\" ]; then"
			print "\t\t\tcase $word in"
			print "\t\t\t-c|--config) ((i++)); [ \"${COMP_WORDS[i]}\" != = ] || ((i++)) ;;"
			print "\t\t\t-*) ;;"
			print "\t\t\t*) command=$word at=$i ;;"
			print "\t\t\tesac"
			print "\t\tfi"
			print "\tdone"
			print "\tcase $command in"
			print "\t\"\") options=\"--config --help --version\" words=\"" commands "\""
			print "\t\t[ \"$option\" != --config ] || kind=file ;;"
			for (n = 1; n <= count; n++) {
				printf "\t%s) options=\"%s\" words=\"%s\"\n", order[n], options[order[n]], words[order[n]]
				print "\t\tcase $option in"
				if (free[order[n]] != "")
					print "\t\t" free[order[n]] ") kind=free ;;"
				print kinds[order[n]] "\t\tesac ;;"
			}
			print "\tesac"
			print "\t# Behind the first word of a command there are ids alone."
			print "\tif [ -n \"$command\" ] && [ -n \"$words\" ]; then"
			print "\t\tfor ((i = at + 1; i < COMP_CWORD; i++)); do"
			print "\t\t\tcase \" $words \" in *\" ${COMP_WORDS[i]} \"*) words= ; break ;; esac"
			print "\t\tdone"
			print "\tfi"
			print "\tcase $kind in"
			print "\tfile) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$current\") ;;"
			print "\tdir) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- \"$current\") ;;"
			print "\tfree) ;;"
			print "\twords) mapfile -t COMPREPLY < <(compgen -W \"$choices\" -- \"$current\") ;;"
			print "\t*)"
			print "\t\tcase $current in"
			print "\t\t-*) mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$current\") ;;"
			print "\t\t*) mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\") ;;"
			print "\t\tesac ;;"
			print "\tesac"
			print "}"
			print "complete -F _outbox_relay outbox-relay"
		}'
}

zsh_completion()
{
	describe | awk -F '\t' '
		function quoted(text) {
			gsub(/[\\\[\]]/, "\\\\&", text)
			gsub(/\047/, "\047\\\047\047", text)
			return text
		}
		$1 == "command" {
			order[++count] = $2
			commands = commands "\t\t\047" $2 ":" quoted($3) "\047\n"
		}
		$1 == "words" { words[$2] = $3 }
		$1 == "option" && ($3 == "--config" || $3 == "--help") { next }
		$1 == "option" {
			spec = $3 ($4 == "-" ? "" : "=") "[" quoted($6) "]"
			if ($4 == "FILE")
				spec = spec ":file:_files"
			else if ($4 == "DIR")
				spec = spec ":directory:_files -/"
			else if ($4 != "-")
				spec = spec ":" $4 ":" ($5 == "-" ? "" : "(" $5 ")")
			specs[$2] = specs[$2] " \\\n\t\t\t\047" spec "\047"
		}
		END {
			common = "\047(-c --config)\047{-c+,--config=}\047[the configuration]:file:_files\047 \\\n" \
			    "\t\t\t\047(-h --help)\047{-h,--help}\047[help]\047"
			print "#compdef outbox-relay"
			print "# Completion of outbox-relay for zsh, made from its help."
			print "_outbox-relay()"
			print "{"
			print "\tlocal curcontext=\"$curcontext\" state line"
			print "\tlocal -a commands"
			print "\n\tcommands=("
			printf "%s", commands
			print "\t)"
			print "\t_arguments -C \\"
			print "\t\t\t" common " \\"
			print "\t\t\t\047(-V --version)\047{-V,--version}\047[the version]\047 \\"
			print "\t\t\t\0471:command:->command\047 \047*::argument:->argument\047 && return"
			print "\tcase $state in"
			print "\tcommand) _describe command commands ;;"
			print "\targument)"
			print "\t\tcase $words[1] in"
			for (n = 1; n <= count; n++) {
				printf "\t\t%s) _arguments \\\n\t\t\t%s%s", order[n], common, specs[order[n]]
				if (words[order[n]] != "")
					printf " \\\n\t\t\t\0471:action:(%s)\047 \047*:id:\047", words[order[n]]
				print " ;;"
			}
			print "\t\tesac ;;"
			print "\tesac"
			print "}"
			print "\n_outbox-relay \"$@\""
		}'
}

"${shell}_completion"
