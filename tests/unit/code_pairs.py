"""Pairs of modules whose `f` differ in one thing that can change its result."""

from __future__ import annotations

PAIRS = {
    "lambda": ("f = lambda x: x + 1", "f = lambda x: x + 2"),
    "two lambdas on one line": (
        "g, f = lambda x: x, lambda x: 1",
        "g, f = lambda x: x, lambda x: 2",
    ),
    "recursion": ("def f(x): return f(x - 1) if x else 0", "def f(x): return f(x - 1) if x else 1"),
    "mutual recursion": (
        "def f(x): return g(x)\ndef g(x): return f(x) if x else 1",
        "def f(x): return g(x)\ndef g(x): return f(x) if x else 2",
    ),
    "a decorated helper": (
        "import functools\n@functools.lru_cache(9)\ndef g(x): return x\ndef f(x): return g(x)",
        "import functools\n@functools.lru_cache(9)\ndef g(x): return -x\ndef f(x): return g(x)",
    ),
    "a decorator of the project": (
        "def d(g):\n    def w(x): return g(x)\n    return w\n@d\ndef f(x): return x",
        "def d(g):\n    def w(x): return -g(x)\n    return w\n@d\ndef f(x): return x",
    ),
    "an argument of a decorator": (
        "import functools\ndef d(n):\n    def e(g):\n        @functools.wraps(g)\n"
        "        def w(x): return n * g(x)\n        return w\n    return e\n"
        "@d(1)\ndef f(x): return x",
        "import functools\ndef d(n):\n    def e(g):\n        @functools.wraps(g)\n"
        "        def w(x): return n * g(x)\n        return w\n    return e\n"
        "@d(2)\ndef f(x): return x",
    ),
    "a closure": (
        "def make(n):\n    def f(x): return x + n\n    return f\nf = make(1)",
        "def make(n):\n    def f(x): return x + n\n    return f\nf = make(2)",
    ),
    "a partial": (
        "import functools\ndef g(x, y): return x\nf = functools.partial(g, y=1)",
        "import functools\ndef g(x, y): return x\nf = functools.partial(g, y=2)",
    ),
    "what a partial calls": (
        "import functools\ndef g(x, y): return x\nf = functools.partial(g, y=1)",
        "import functools\ndef g(x, y): return y\nf = functools.partial(g, y=1)",
    ),
    "a method": (
        "class A:\n    def m(self): return 1\nf = A().m",
        "class A:\n    def m(self): return 2\nf = A().m",
    ),
    "what a method is bound to": (
        "class A:\n    def __init__(self, n): self.n = n\n"
        "    def m(self): return self.n\nf = A(1).m",
        "class A:\n    def __init__(self, n): self.n = n\n"
        "    def m(self): return self.n\nf = A(2).m",
    ),
    "a base class": (
        "class B:\n    def m(self): return 1\nclass A(B): pass\ndef f(): return A().m()",
        "class B:\n    def m(self): return 2\nclass A(B): pass\ndef f(): return A().m()",
    ),
    "a static method": (
        "class A:\n    @staticmethod\n    def m(): return 1\ndef f(): return A.m()",
        "class A:\n    @staticmethod\n    def m(): return 2\ndef f(): return A.m()",
    ),
    "a property": (
        "class A:\n    @property\n    def p(self): return 1\ndef f(): return A().p",
        "class A:\n    @property\n    def p(self): return 2\ndef f(): return A().p",
    ),
    "a field of a dataclass": (
        "import dataclasses as d\n@d.dataclass\nclass A:\n    x: int = 1\ndef f(): return A()",
        "import dataclasses as d\n@d.dataclass\nclass A:\n    x: int = 2\ndef f(): return A()",
    ),
    "the type of a field": (
        "import dataclasses as d\n@d.dataclass\nclass A:\n    x: int = 1\ndef f(): return A()",
        "import dataclasses as d\n@d.dataclass\nclass A:\n    x: str = 1\ndef f(): return A()",
    ),
    "the factory of a default": (
        "import dataclasses as d\ndef g(): return 1\n@d.dataclass\nclass A:\n"
        "    x: int = d.field(default_factory=g)\ndef f(): return A()",
        "import dataclasses as d\ndef g(): return 2\n@d.dataclass\nclass A:\n"
        "    x: int = d.field(default_factory=g)\ndef f(): return A()",
    ),
    "a member of an enum": (
        "import enum\nclass A(enum.Enum):\n    X = 1\ndef f(): return A.X",
        "import enum\nclass A(enum.Enum):\n    X = 2\ndef f(): return A.X",
    ),
    "the class of a constant": (
        "class A:\n    def m(self): return 1\na = A()\ndef f(): return a.m()",
        "class A:\n    def m(self): return 2\na = A()\ndef f(): return a.m()",
    ),
    "the class of what a constant holds": (
        "class A:\n    def m(self): return 1\na = {'k': [A()]}\ndef f(): return a['k'][0].m()",
        "class A:\n    def m(self): return 2\na = {'k': [A()]}\ndef f(): return a['k'][0].m()",
    ),
    "a function in a table": (
        "def g(): return 1\nt = {'g': g}\ndef f(): return t['g']()",
        "def g(): return 2\nt = {'g': g}\ndef f(): return t['g']()",
    ),
    "an operator": ("def f(x): return x < 1", "def f(x): return x <= 1"),
    "an f-string": ("def f(x): return f'{x:>3}'", "def f(x): return f'{x:>4}'"),
    "a conversion": ("def f(x): return f'{x!r}'", "def f(x): return f'{x!s}'"),
    "int and float": ("def f(x): return 1", "def f(x): return 1.0"),
    "tuple and list": ("def f(x): return (1, 2)", "def f(x): return [1, 2]"),
    "str and bytes": ("def f(x): return 'a'", "def f(x): return b'a'"),
    "async": ("def f(x): return x", "async def f(x): return x"),
    "kinds of parameters": ("def f(x, y): return x", "def f(x, *, y): return x"),
    "string that is no docstring": ("def f(): return 'a'", "def f(): return 'b'"),
    "else or after": (
        "def f(x):\n    for y in x: pass\n    else: return 1",
        "def f(x):\n    for y in x: return 1",
    ),
}  # fmt: skip
