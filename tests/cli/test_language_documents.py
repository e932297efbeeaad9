"""The documents of a site: site.toml, includes, states; and input that nobody should write."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sitefolder import SiteFolder

STATE = '[state]\nsummary = "{0}"\n[file."HOST/{0}"]\ncontent = "{0}\\n"\n'


def messages(problems: list[dict[str, object]]) -> list[str]:
    return [f"{each['file']}:{each['line']}: {each['key']}: {each['message']} | {each['hint']}" for each in problems]


def test_a_whole_site_may_be_one_file_or_none_at_all(site: SiteFolder) -> None:
    site.write("site.toml", "")
    result = site.run("validate")
    assert (result.code, result.out) == (0, f"{site.path}/site.toml is valid: 0 resources, 0 states\n")
    site.write("site.toml", '[file."HOST/motd"]\ncontent = "kept\\n"\n')
    assert site.shown().json["resources"] == [
        {"id": f"file:{site.host}/motd", "kind": "file", "name": f"{site.host}/motd", "state": "site",
         "source": "site.toml:1", "fields": {"content": "kept\n"}, "requires": [], "implied_requires": []}
    ]  # fmt: skip


def test_site_is_found_by_file_by_folder_and_in_the_current_folder(site: SiteFolder) -> None:
    site.write("site.toml", "[apt.tree]\n")
    for found in (
        site.run("show", "--json", site=None),
        site.run("show", "--json", "--site", "site.toml", site=None),
        site.run("show", "--json", "--site", ".", site=None),
        site.run("--site", "../site/site.toml", "show", "--json", site=None),
    ):
        assert found.ids == ["apt:tree"], found.text
    missing = site.run("validate", site="nowhere.toml")
    assert missing.code == 3
    assert "nowhere.toml" in missing.err
    assert site.run("validate", site="x" * 300).code == 3


def test_includes_are_read_once_in_order_relative_to_the_file_that_names_them(site: SiteFolder) -> None:
    site.files({
        "site.toml": '[site]\ninclude = ["conf.d/*.toml", "more/one.toml"]\n[command.own]\nrun = ["true"]\n',
        "conf.d/b.toml": '[command.b]\nrun = ["true"]\n',
        "conf.d/a.toml": '[site]\ninclude = ["../more/*.toml"]\n[command.a]\nrun = ["true"]\n',
        "conf.d/.hidden.toml": "not toml at all",
        "conf.d/folder.toml/x": "",
        "more/one.toml": '[site]\ninclude = ["../site.toml", "../conf.d/a.toml", "none*.toml"]\n'
                         '[command.one]\nrun = ["true"]\n',
    })  # fmt: skip
    assert site.shown().ids == ["command:own", "command:a", "command:one", "command:b"]


def test_what_is_included_must_be_there(site: SiteFolder) -> None:
    site.files({"site.toml": '[site]\ninclude = ["a.toml",\n "folder", "a\\u0000b", 3]\n', "folder/x.toml": ""})
    problems = sorted(site.wrong(), key=lambda each: each["key"])
    assert [(each["line"], each["key"]) for each in problems] == [
        (2, "site.include[0]"), (3, "site.include[1]"), (3, "site.include[2]"), (3, "site.include[3]")
    ]  # fmt: skip
    assert "a.toml" in problems[0]["message"]
    assert "folder/*.toml" in problems[1]["hint"]


def test_states_come_in_order_each_once_after_what_they_need(site: SiteFolder) -> None:
    site.write("site.toml", '[site]\nstates = ["c", "a", "c"]\n[command.own]\nrun = ["true"]\n')
    for name, needs in {"a": ["b"], "b": ["mail-store"], "c": ["b"], "mail-store": []}.items():
        site.write(f"states/{name}/state.toml", STATE.format(name).replace("[state]", f"[state]\nneeds = {needs}"))
    shown = site.shown()
    assert [id.rpartition("/")[2] for id in shown.ids] == ["mail-store", "b", "c", "a", "command:own"]
    assert list(shown.json["states"]) == ["mail-store", "b", "c", "a"]
    assert shown.resource(f"file:{site.host}/b")["source"] == "states/b/state.toml:4"


def test_states_that_cannot_be_selected(site: SiteFolder) -> None:
    long = "x" * 300
    site.write("site.toml", f'[site]\nstates = ["a", "postfixx", "site", "../x", "empty",\n"{long}", "{long[:90]}"]\n')
    for name, needs in {"a": "b", "b": "c", "c": "a"}.items():
        site.write(f"states/{name}/state.toml", f'[state]\nneeds = ["{needs}"]\n')
    site.write("states/postfix/state.toml", "")
    (site.path / "states" / "empty").mkdir()
    found = {each["key"]: each for each in site.wrong()}
    assert found["state.needs[0]"]["message"] == "states need each other in a circle: a → b → c → a"
    assert found["state.needs[0]"]["file"] == "states/c/state.toml"
    assert found["site.states[1]"]["hint"] == 'did you mean "postfix"?'
    assert {f"site.states[{i}]" for i in range(1, 7)} < set(found)


def test_a_state_beside_the_site_overrides_a_shipped_one(site: SiteFolder) -> None:
    site.write("site.toml", '[site]\nstates = ["mailname"]\n[values]\ndomain = "example.net"\n')
    assert "file:/etc/mailname" in site.shown().ids
    site.write("states/mailname/state.toml", STATE.format("mailname"))
    assert [each["message"] for each in site.wrong()] == ["no state reads this value"]
    site.write("site.toml", '[site]\nstates = ["mailname"]\n')
    assert site.shown().ids == [f"file:{site.host}/mailname"]


def test_a_wrong_item_of_a_list_is_told_by_its_own_place(site: SiteFolder) -> None:
    site.write("site.toml", '[site]\nstates = [3, "gone"]\ninclude = [4, "gone.toml"]\n')
    told = {each["key"]: each["message"] for each in site.wrong()}
    assert set(told) == {"site.states[0]", "site.states[1]", "site.include[0]", "site.include[1]"}
    assert told["site.states[1]"] == 'there is no state "gone"'
    assert told["site.include[1]"] == 'there is no file "gone.toml" to include'


def test_unknown_sections_kinds_and_keys_are_told_with_the_nearest_word(site: SiteFolder) -> None:
    site.files({
        "site.toml": 'domain = "x"\n[sites]\n[site]\nstate = []\nstates = ["s"]\n[files."/a"]\n[quux]\n'
                     '[apt]\ntree = 1\n[[user.bob]]\n[file."/a"]\ncontnet = "x"\nMODE = "0644"\n[secret.x]\n',
        "states/s/state.toml": '[state]\nneed = []\nsummary = 3\n[values]\na = 1\n[parameter.x]\ntype = "int"\n',
    })  # fmt: skip
    told = messages(site.wrong())
    for expected in (
        'site.toml:1: domain: "domain" stands in no section | values go into [values]',
        'site.toml:2: sites: "sites" is no section and no kind | did you mean "site"?',
        'site.toml:4: site.state: unknown key of [site] | did you mean "states"?',
        'site.toml:6: files: "files" is no section and no kind | did you mean "file"?',
        "site.toml:9: apt.tree: is not inside a resource: declare [apt.NAME] | ",
        'site.toml:12: file."/a".contnet: unknown key of file | did you mean "content"?',
        'site.toml:13: file."/a".MODE: unknown key of file | did you mean "mode"?',
        'site.toml:14: secret: "secret" is no section and no kind | did you mean "secrets"?',
        'states/s/state.toml:2: state.need: unknown key of [state] | did you mean "needs"?',
        "states/s/state.toml:3: state.summary: must be a string | ",
        "states/s/state.toml:4: values: [values] belongs in a site file, not in a state | ",
        'states/s/state.toml:6: parameter: "parameter" is no section and no kind | did you mean "parameters"?',
    ):
        assert expected in told
    assert any(each.startswith("site.toml:7: quux:") and "apt" in each for each in told)
    assert any(each.startswith("site.toml:10: user.bob:") for each in told)
    assert len(told) == 14


def test_sections_of_the_wrong_type(site: SiteFolder) -> None:
    site.write("site.toml", 'site = 1\nvalues = []\nsecrets = "x"\nparameters = 3\nstate = true\nfile = 7\n')
    assert {(each["line"], each["key"]) for each in site.wrong()} == {
        (1, "site"), (2, "values"), (3, "secrets"), (4, "parameters"), (5, "state"), (6, "file")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "line", "words"),
    {
        "syntax": ('[file."/a"]\ncontent = "x\n', 2, "not valid TOML"),
        "twice": ("a = 1\n[b]\n\n[b]\n", 4, "not valid TOML"),
        "control": (b'a = "x\x00"\n', 1, "not valid TOML"),
        "not utf-8": (b'[values]\n# fine\na = "\xe4"\n', 3, "is not UTF-8"),
        "bom": (b"\xef\xbb\xbf[values]\n", 1, "byte order mark"),
        "utf-16": ("[values]\n".encode("utf-16"), 1, "is not UTF-8"),
        "deep": ("[values]\na = " + "[" * 5000 + "]" * 5000, 1, "nested too deeply"),
        "deep enough": ("[values]\n\na = " + "[" * 70 + "]" * 70, 3, "nested too deeply"),
        "long number": ("[values]\n\na = " + "9" * 5000, 3, "64 bits"),
        "large number": ("[values]\na = 0x" + "f" * 5000, 2, "64 bits"),
    }.values(),
    ids=["syntax", "twice", "control", "not utf-8", "bom", "utf-16", "deep", "deep enough", "long", "large"],
)
def test_documents_that_cannot_be_read(site: SiteFolder, content: str | bytes, line: int, words: str) -> None:
    site.write("site.toml", content)
    problems = site.wrong()
    assert [(each["file"], each["line"]) for each in problems] == [("site.toml", line)]
    assert words in problems[0]["message"]


def test_line_ends_of_windows_are_fine_and_lines_are_counted(site: SiteFolder) -> None:
    site.write("site.toml", b'[values]\r\n\r\n[command.x]\r\nrun = ["true"]\r\nenvv = """a\r\nb"""\r\n')
    assert [each["line"] for each in site.wrong()] == [5]


def test_folders_and_files_that_cannot_be_opened(site: SiteFolder) -> None:
    site.files({"site.toml": '[site]\ninclude = ["l*.toml"]\nstates = ["s"]\n', "states/s/state.toml/x": ""})
    (site.path / "lost.toml").symlink_to("nowhere.toml")
    (site.path / "loop.toml").symlink_to("loop.toml")
    assert [each["key"] for each in site.wrong()] == ["site.states[0]"]
    (site.path / "site.toml").unlink()
    (site.path / "site.toml").mkdir()
    assert site.run("validate").code == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read a file")
def test_unreadable_files_are_told() -> None:
    from agent.declaration.compile import compile_site
    from agent.errors import DeclarationError

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "states" / "s").mkdir(parents=True)
        (folder / "states" / "s" / "state.toml").touch()
        (folder / "site.toml").write_text('[site]\nstates = ["s"]\ninclude = ["a.toml"]\n')
        (folder / "a.toml").touch(0)
        (folder / "states").chmod(0)
        os.seteuid(65534)
        try:
            with pytest.raises(DeclarationError) as caught:
                compile_site(folder / "site.toml", None)
        finally:
            os.seteuid(0)
    assert [(each.file, each.message) for each in caught.value.problems] == [
        ("a.toml", "cannot be read: Permission denied"), ("site.toml", 'there is no state "s"')
    ]  # fmt: skip


def test_all_errors_at_once_and_nothing_touched(site: SiteFolder) -> None:
    site.write("site.toml", '[file."HOST/new"]\ncontent = "x"\n[file."HOST/bad"]\nmode = 1\n[nope]\n[file.relative]\n')
    for words in (("apply",), ("apply", "--check"), ("show",), ("status",), ("graph",)):
        result = site.run(*words, "--json") if words != ("graph",) else site.run(*words)
        assert result.code == 3
        assert result.err.startswith("agent: 3 errors in the declarations; nothing was touched\n")
        for place in ('site.toml:4: file."HOST/bad".mode:', "site.toml:5: nope:", "site.toml:6: file.relative:"):
            assert place.replace("HOST", str(site.host)) in result.err
        if words != ("graph",):
            assert [set(each) for each in result.problems] == [{"file", "line", "key", "message", "hint"}] * 3
    assert not list(site.host.iterdir())
    assert not site.state.exists()


def test_validate_leaves_nothing_behind(site: SiteFolder) -> None:
    site.write("site.toml", '[file."HOST/new"]\ncontent = "x"\n')
    assert site.run("validate", "--quiet").text == ""
    document = site.valid().json
    assert document["problems"] == []
    assert document["resources"] == 1
    assert not site.state.exists()
    assert not list(site.host.iterdir())
