"""The page that `ebbgate --help` shows, written by hand: quick to print, in the order of need."""

from typing import Final

PAGE: Final = """\
ebbgate: concurrency limits and rate limits that many processes share

Usage: ebbgate COMMAND [ARGUMENTS]

Limits
  limit      create, ls, inspect, update, enable, disable, cool-down, delete
             (also: gcl)
  apply      make limits as a file says: apply -f limits.yaml
  export     write the limits as that file
  lease      ls, inspect, revoke: who holds slots, who waits, and why

Use
  run        hold slots while a command runs
  top        watch limits, holders and waiters live, and change them by keys
  demo       real processes contend; watch it work

Operate
  serve      the same limits for many machines and every language
  store      check, upgrade: the PostgreSQL or Redis that servers share
  doctor     what it is connected to, and whether all is well
  import     copy limits from elsewhere: import prefect --url URL
  completion print the completion script of a shell

Options
  -h, --help     this page; ebbgate COMMAND --help tells more
  --version      print the version
  -o, --output   table or json; every command takes it. json goes to stdout
                 alone, messages to stderr

Examples
  ebbgate limit create database --limit 5
  ebbgate limit create api --limit 60 --rate 60/hour
  ebbgate run --limit database -- pg_dump shop
  ebbgate run --rate-limit api --timeout 10 -- curl https://example.com
  ebbgate limit inspect database
  ebbgate serve

Environment
  EBBGATE_URL    where limits live: sqlite:////absolute/path.db, or a server:
                 ebbgate://host:4220; unset: a file that all processes of this
                 user on this machine share
  EBBGATE_DEBUG  1 shows the traceback of an error
  NO_COLOR       no colours

Exit codes
  0 ok, 1 error, 2 usage, 3 not found, 4 conflict, 5 not authorized,
  75 no slot free, 124 timed out waiting; run passes its command's code through
"""
