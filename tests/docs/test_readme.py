"""What the README shows is executed, with its own words."""

import json
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = FENCE.findall(README)


def block(language: str, holds: str) -> str:
    """The one block of the README in a language that holds a text."""
    (found,) = (body for kind, body in BLOCKS if kind == language and holds in body)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the README's service.py and rows to predict."""
    (tmp_path / "service.py").write_text(block("python", "class Tagger:"), encoding="utf-8")
    (tmp_path / "projects.csv").write_text(
        "id,title,description\n1,Text to text,Translating text.\n2,Video,image and video\n"
    )
    return tmp_path


def run_python(folder: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def salver(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "salver.cli", *arguments],
        cwd=folder, check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def address(folder: Path):
    """Where the README's service listens, until the test is over."""
    process = subprocess.Popen(
        [sys.executable, "-m", "salver.cli", "serve", "service:service", "--port", "0"],
        cwd=folder, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    said = ""
    while "Ready" not in said:
        line = process.stderr.readline()
        assert line, f"the service ended:\n{said}"
        said += line
    yield re.search(r"http://127\.0\.0\.1:\d+", said)[0]
    process.terminate()
    assert process.wait(30) == 0
    process.stderr.close()


def test_the_curl_example_gives_the_answer_shown(address):
    """The request of the README, sent by curl, is answered as the README says."""
    command = block("bash", "curl -s").replace("localhost:8000", address.removeprefix("http://"))

    answer = subprocess.run(
        shlex.split(command.replace("\\\n", " ")), capture_output=True, check=True
    ).stdout

    assert json.loads(block("json", "results")) == json.loads(answer)


def test_the_client_of_the_readme_is_answered(folder, address):
    """As the curl example is."""
    code = block("python", "salver.client").replace("http://127.0.0.1:8000", address)
    code = code.replace(
        'client.predict({"title": "Text to text"})',
        'print(client.predict({"title": "Text to text"}))',
    )
    assert "language" in run_python(folder, code)


def test_the_offline_command_writes_a_result_per_row(folder):
    """`salver predict` of the README writes the input's columns and the results."""
    salver(folder, *shlex.split(block("bash", "salver predict"))[1:], "--format", "jsonl")

    (part,) = (folder / "out").glob("part-*.jsonl")
    rows = [json.loads(line) for line in part.read_text().splitlines()]
    assert [("1", "language"), ("2", "vision")] == [(r["id"], r["prediction"]) for r in rows]


def test_parity_of_the_readme_holds(folder):
    """`salver parity` of the README finds no difference."""
    assert "Equal" in salver(folder, *shlex.split(block("bash", "salver parity"))[1:])


def test_the_verbs_for_a_notebook_work(folder):
    """Each line for a notebook runs, and nothing is left running."""
    lines = block("python", "service.run(blocking=False)").replace(
        "service.run(blocking=False)", "service.run(blocking=False, port=0)"
    )
    code = f"from service import service, tagger\n{lines}"
    last = "tagger.predict("
    code = code.replace(last, f"result = {last}").replace(
        "service.predict(", "rows = service.predict("
    )

    out = run_python(folder, f"{code}\nprint(rows[0]['prediction'], result[0]['prediction'])")

    assert "language language" == out.strip()


def test_the_rule_of_ones_own_is_applied_after_the_threshold(folder):
    """The policy class of the README renames what the threshold answered."""
    rule = block("python", "class Rename:").replace(".bind(...)", ".bind({'a': ['a'], 'b': ['b']})")
    code = f"""
from salver import Service, Threshold
from service import Tagger
{rule}
service = Service(tagger)
print(service.predict([{{"title": "ab"}}])[0]["prediction"])
service.shutdown()
"""

    assert "unsure" == run_python(folder, code).strip()


def test_the_composed_function_answers_from_both_models(folder):
    """The composed function of the README runs over two deployments."""
    composed = block("python", "async def triage")
    (folder / "composed.py").write_text(
        "from salver import Service, deployment\n"
        "from service import Project, Tagger, tagger\n"
        "urgency = Tagger.options(name='Urgency').bind({'yes': ['now'], 'no': ['later']})\n"
        + composed
    )
    code = """
from composed import service
print(service.predict([{"title": "text now"}, {"title": "image later"}]))
service.shutdown()
"""

    shown = run_python(folder, code)

    assert (
        "[{'tag': 'language', 'urgent': True}, {'tag': 'vision', 'urgent': False}]" == shown.strip()
    )


def test_the_options_file_is_obeyed(folder):
    """The YAML of the README is valid, and the three spellings of an option mean the same."""
    (folder / "salver.yaml").write_text(block("yaml", "Tagger:"))
    code = textwrap.dedent("""
        from pathlib import Path
        from salver.settings import gather_overrides

        spellings = [
            gather_overrides(["Tagger"], Path("salver.yaml"), (), {}),
            gather_overrides(
                ["Tagger"], None, (), {"SALVER_NUM_REPLICAS": "2", "SALVER_TAGGER__MAX_BATCH_SIZE": "16"}
            ),
            gather_overrides(["Tagger"], None, ["num_replicas=2", "Tagger.max_batch_size=16"], {}),
        ]
        for found in spellings:
            options = found.deployments["Tagger"]
            print(options["num_replicas"], options["max_batch_size"])
    """)

    assert ["2 16"] * 3 == run_python(folder, code).splitlines()


def test_every_option_stands_in_a_table():
    """Each option of deployments and of the server is in the README, and no other."""
    from salver.options import DEPLOYMENT_OPTIONS, SERVER_OPTIONS

    rows = re.findall(r"^\| (`[^|]+`) \|", README, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}

    assert {*DEPLOYMENT_OPTIONS, *SERVER_OPTIONS} <= named


def test_every_error_code_of_a_request_stands_in_the_table():
    """Each code that a client can get is in the README's table."""
    from salver import errors
    from salver.errors import RequestError, ServingError

    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, RequestError | ServingError)
    ]
    codes = {kind.code for kind in kinds if kind not in (RequestError, ServingError)}

    assert {code for code in codes if f"`{code}`" not in README} == set()
