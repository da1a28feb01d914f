"""Make `.venv` and install roughspike into it: `python tools/environment.py run|dev`. Standard library only.

`run` installs the package, and NeMoS (the second baseline) if that can be done. `dev` adds everything that the tests,
the linters and the documentation need. pip is kept quiet; its log is `.venv/install-<kind>.log`.
"""

import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(HERE, ".venv")
OLDEST = (3, 11)


def main(kind):
    """Create what is missing, install, and leave a stamp file that make compares with pyproject.toml."""
    check_python()
    python = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin", "python")
    if not works(python):
        create(python)
    if kind == "dev":
        install(python, ".[glm,test,dev,docs]", kind) or install(python, ".[test,dev,docs]", kind, required=True)
    else:
        install(python, ".", kind, required=True)
        if not install(python, ".[glm]", "glm"):
            say("NeMoS could not be installed (see .venv/install-glm.log): going on without it; the report then quotes")
            say("the recorded figures of that baseline.")
    for stamp in ("run", "dev") if kind == "dev" else ("run",):
        with open(os.path.join(VENV, ".ready-" + stamp), "w") as file:
            file.write(time.strftime("%Y-%m-%d %H:%M:%S\n"))


def check_python():
    """Say clearly which Python is needed, and how to name another one."""
    if sys.version_info[:2] >= OLDEST:
        return
    this = (sys.version.split()[0], sys.executable)
    say("roughspike needs Python %d.%d or newer; this is %s (%s)." % (OLDEST + this))
    names = ("python3.13", "python3.12", "python3.11")
    newer = [name for name in names if shutil.which(name) and works(name)]
    say("Name another one, for example:  make fit PYTHON=%s" % (newer[0] if newer else "/path/to/python3.12"))
    sys.exit(1)


def works(python):
    """Is there an environment, of a Python that is new enough and still installed?"""
    test = "import sys, pip; sys.exit(sys.version_info[:2] < (%d, %d))" % OLDEST
    with open(os.devnull, "w") as null:
        try:
            return subprocess.call([python, "-c", test], stdout=null, stderr=null) == 0
        except OSError:
            return False


def create(python):
    """A fresh virtual environment."""
    say("creating .venv with Python " + sys.version.split()[0])
    done = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", VENV], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode or not works(python):
        sys.stderr.write(done.stdout.decode("utf-8", "replace"))
        say("could not create a virtual environment. On Debian or Ubuntu:  apt install python3-venv")
        sys.exit(1)


def install(python, what, kind, required=False):
    """`pip install --editable`, one progress line; True if it worked."""
    log = os.path.join(VENV, "install-%s.log" % kind)
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--editable", what]
    start, seen, live = time.time(), 0, sys.stderr.isatty()
    if not live:
        say("installing %s (a minute or two, once)" % what.replace(".", "roughspike", 1))
    with open(log, "w") as file:
        process = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for raw in process.stdout:
            line = raw.decode("utf-8", "replace")
            file.write(line)
            word = line.split()
            if word[:1] == ["Collecting"] or line.startswith("Installing collected"):
                seen += word[0] == "Collecting"
                news = "package %d: %s" % (seen, word[1]) if word[0] == "Collecting" else "unpacking %d packages" % seen
                if live:
                    sys.stderr.write("\r\033[Kinstalling, %3.0f s, %s" % (time.time() - start, news[:60]))
                    sys.stderr.flush()
        failed = process.wait() != 0
    if live:
        sys.stderr.write("\r\033[K")
    if failed and required:
        with open(log) as file:
            sys.stderr.write("".join(file.readlines()[-15:]))
        say("installation failed; the whole log is " + os.path.relpath(log, HERE))
        sys.exit(1)
    if not failed:
        say("installed %s in %.0f s" % (what.replace(".", "roughspike", 1), time.time() - start))
    return not failed


def say(text):
    """One line to the terminal."""
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    if sys.argv[1:] not in (["run"], ["dev"]):
        sys.exit("usage: python tools/environment.py run|dev")
    main(sys.argv[1])
