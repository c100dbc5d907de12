"""Counts the members of every class and struct in include/ and src/, and the lines of those in exchange/.

members.py SOURCE_FOLDER: all classes with their counts, the largest first.

A member is a field or a function, private ones and overloads included. Constructors, destructor and assignments count as one, all
together. Not counted: nested types and what is in them, aliases, friends, constants (static constexpr), deleted functions. This reads
declarations by their braces, which is enough for code in this project's style and needs no compiler.
"""
import functools
import pathlib
import re
import sys
from dataclasses import dataclass, field

CLASS = re.compile(r"^(?:template\b\s*)?(?:requires\b.*?)?(?:class|struct)\s+(?:\[\[\w+\]\]\s*)?(?:alignas\([^)]*\)\s*)?"
                   r"([\w:]+)\s*(?:final\b)?\s*(?::[^:].*)?$", re.S)


@dataclass
class Class:
    name: str                                   # with those that it is nested in: "Detector::Member"
    path: pathlib.Path
    fields: list = field(default_factory=list)
    functions: list = field(default_factory=list)
    built: bool = False                         # has constructors, a destructor or assignments of its own
    from_section: bool = False                  # one of its constructors reads a section of a job file
    lines: int = 0                              # of its body, and of its functions that stand elsewhere in its folder

    @property
    def members(self):
        return len(self.fields) + len(self.functions) + self.built

    @property
    def plain_options(self):
        """Fields that are bound from a section, and nothing else."""
        return self.from_section and not self.functions


def plain(text):
    """The same length and lines, with comments, literals and preprocessor lines blanked out."""
    blank = lambda found: re.sub(r"[^\n]", " ", found[0])
    pattern = r'R"(\w*)\((?:.|\n)*?\)\1"|//[^\n]*|/\*(?:.|\n)*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'(?!\d)'
    return re.sub(r"(?m)^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, re.sub(pattern, blank, text))


def closing(text, at):
    """Behind the bracket that closes the one at `at`."""
    depth = 0
    for bracket in re.compile(r"[(){}\[\]]").finditer(text, at):
        depth += 1 if bracket[0] in "({[" else -1
        if depth == 0:
            return bracket.end()
    raise ValueError("a bracket is not closed")


def without_templates(text):
    """Without what stands between < and >, so that the parentheses that are left are a function's."""
    text = re.sub(r"operator\s*(<=>|<<|>>|<=|>=|<|>|->)", "operator", text)
    text = text.replace("->", " ").replace(">=", " ").replace("<=", " ")
    while True:
        shorter = re.sub(r"<[^<>;{}]*>", "", text)
        if shorter == text:
            return text
        text = shorter


def statements(text):
    """(head, body, start, end) of each declaration: `body` is None, or the span of its last braces."""
    i, start, body = 0, 0, None
    while i < len(text):
        label = re.compile(r"\s*(?:public|private|protected)\s*:(?!:)").match(text, i) if not text[start:i].strip() else None
        if label:
            i = start = label.end()
            continue
        c = text[i]
        if c in "([":
            i = closing(text, i)
        elif c == "{":
            end = closing(text, i)
            first = text[start:i] if body is None else first
            body, i = (i + 1, end - 1), end
            rest = text[i:].lstrip()
            head = without_templates(first)
            type_or_space = re.match(r"\s*(?:(?:inline\s+)?namespace|extern|(?:template\s*)?(?:class|struct|union|enum))\b", head)
            is_function = "(" in head and not type_or_space and "=" not in head.split("(")[0].replace("operator=", "")
            if rest[:1] not in (",", "{") and (is_function or re.match(r"\s*(?:inline\s+)?namespace|\s*extern", head)) and rest[:1] != ";":
                yield first, body, start, i
                start, body = i, None
        elif c == ";":
            yield (text[start:i] if body is None else first), body, start, i
            i += 1
            start, body = i, None
        else:
            i = re.compile(r"[^(\[{;]*").match(text, i + 1).end() if text[start:i].strip() else i + 1


def declarators(text):
    """How many variables a declaration of fields declares."""
    text = without_templates(re.sub(r"=\s*[^,;]*?\?[^,;]*", "", text))
    depth, count = 0, 1
    for c in text:
        depth += (c in "({[") - (c in ")}]")
        count += c == "," and depth == 0
    return count


def add_member(found, head, whole):
    head = re.sub(r"\[\[[^\]]*\]\]", "", re.sub(r"\s+", " ", without_templates(head))).strip()
    if not head or re.match(r"(using|typedef|friend|static_assert|enum|static inline constexpr|static constexpr)\b|(class|struct) \w+$", head):
        return
    short = found.name.split("::")[-1]
    before = head.split("(")[0].replace("operator=", "operator")
    if "(" in head and "=" not in before and not re.search(r"\w\s*\{", before):
        if re.search(rf"(^|\W)~?{short}\s*\(", head) or "operator=" in head.replace(" ", ""):
            found.built = True
            found.from_section |= bool(re.search(r"\(\s*Section\s*&", head))
        elif not re.search(r"=\s*delete\s*$", re.sub(r"\s+", " ", whole).strip()):
            found.functions.append(before.split()[-1])
    else:
        found.fields += [re.split(r"[={]", head)[0].strip()] * declarators(whole)


def classes_in(text, path, outer="", offset=0):
    """All classes of this text, at any depth of namespaces, classes and functions' files."""
    for head, body, start, end in statements(text):
        head = head.strip()
        kind = without_templates(head)
        if body and re.match(r"(inline )?namespace\b|extern\b", kind):
            yield from classes_in(text[body[0]:body[1]], path, outer)
            continue
        match = CLASS.match(kind.strip()) if body and not kind.startswith("enum") else None
        if not match:
            continue
        found = Class(outer + match[1], path)
        inside = text[body[0]:body[1]]
        found.lines = inside.count("\n") + 1
        for member, member_body, member_start, member_end in statements(inside):
            member_kind = without_templates(member.strip())
            if member_body and CLASS.match(member_kind.strip()) and not member_kind.startswith("enum"):
                behind = inside[member_body[1] + 1:member_end].strip()
                if behind:                                   # struct { … } name;
                    found.fields.append(behind)
                continue
            add_member(found, member, inside[member_start:member_end] if "(" not in without_templates(member) or "delete" in
                       inside[member_start:member_end] else member)
        yield from classes_in(inside, path, found.name + "::")
        yield found


def functions_elsewhere(text):
    """(class's name, lines) of each member function that is defined outside of its class."""
    for head, body, start, end in statements(text):
        kind = without_templates(head)
        if body and re.match(r"\s*(inline )?namespace\b", kind):
            yield from functions_elsewhere(text[body[0]:body[1]])
        elif body and "(" in kind:
            owner = re.search(r"([\w:]+)::~?\w+\s*$", kind.split("(")[0])
            if owner:
                yield owner[1], text[start:end].strip().count("\n") + 1


@functools.cache
def all_classes(root):
    found = []
    for top in ("include", "src"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in (".hpp", ".cpp"):
                found += classes_in(plain(path.read_text(encoding="utf-8")), path.relative_to(root))
    by_name = {}
    for each in found:
        by_name.setdefault(each.name, each)
    for path in sorted((root / "src/exchange").glob("*.cpp")):
        for owner, lines in functions_elsewhere(plain(path.read_text(encoding="utf-8"))):
            if owner in by_name:
                by_name[owner].lines += lines
    return found


def lines_by_folder(root):
    """How many lines each folder of src/ has."""
    lines = {}
    for path in sorted((root / "src").rglob("*")):
        if path.suffix in (".hpp", ".cpp"):
            folder = path.relative_to(root / "src").parts[0]
            lines[folder] = lines.get(folder, 0) + path.read_text(encoding="utf-8").count("\n")
    return lines


def classes_of(source):
    """The classes of a text, by name: for checks of this file."""
    return {each.name: each for each in classes_in(plain(source), pathlib.Path("text"))}


if __name__ == "__main__":
    for each in sorted(all_classes(pathlib.Path(sys.argv[1])), key=lambda c: -c.members):
        print(f"{each.members:4} {len(each.fields):4} fields {len(each.functions):4} functions {each.lines:5} lines "
              f"{'options ' if each.plain_options else '        '} {each.name}  {each.path}")
