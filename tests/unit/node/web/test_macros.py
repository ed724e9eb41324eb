"""What pages have in common, as HTML."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import QueryParams

from horologe.node.web import words
from horologe.node.web.view import TEMPLATE_FOLDER


@pytest.fixture
def render():
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(words.FILTERS)
    environment.globals.update(words.FUNCTIONS)

    def rendered(source: str, query: str = "", **values: object) -> str:
        template = environment.from_string('{% import "macros.html" as ui with context %}' + source)
        view = SimpleNamespace(csrf="proof")
        text = template.render(view=view, path="/jobs", query=QueryParams(query), **values)
        return " ".join(text.split())

    return rendered


def test_badge_and_dots(render) -> None:
    assert render('{{ ui.badge("running") }}') == '<span class="badge running">running</span>'
    html = render("{{ ui.dots(results) }}", results=[("failed", "/executions/a/b/1", "1 <s>")])
    assert 'class="dot failed" href="/executions/a/b/1"' in html
    assert 'aria-label="failed: 1 &lt;s&gt;"' in html
    assert "✗" in html


def test_pager_keeps_the_query(render) -> None:
    assert render('{{ ui.pager("") }}', "state=failed") == ""
    html = render('{{ ui.pager("a/b") }}', "state=failed&page=x")
    assert 'href="/jobs?state=failed">First page' in html
    assert 'href="/jobs?state=failed&amp;page=a%2Fb">Next page' in html


def test_filters_and_fields(render) -> None:
    html = render(
        '{% call ui.filters() %}{{ ui.text("q", "Text", value, hint="h") }}'
        '{{ ui.choice("state", "State", ["a", "b"], "b", any="any") }}'
        '{{ ui.area("note", "Note", "<t>", error="too long") }}{% endcall %}',
        "q=1",
        value='"><script>',
    )
    assert 'method="get" action="/jobs" role="search"' in html
    assert 'name="q" type="text" value="&#34;&gt;&lt;script&gt;" aria-describedby="hint-q"' in html
    assert '<option value="b" selected>b</option>' in html
    assert 'aria-invalid="true" aria-describedby="error-note"' in html
    assert "&lt;t&gt;</textarea>" in html
    assert '<a href="/jobs">Clear</a>' in html


def test_a_button_is_a_form_with_proof(render) -> None:
    html = render('{{ ui.button("/jobs/a/b/pause", "Pause", {"reason": "x"}, confirm="Pause it?", kind="danger") }}')
    assert 'method="post" action="/jobs/a/b/pause" data-confirm="Pause it?"' in html
    assert '<input type="hidden" name="csrf" value="proof">' in html
    assert '<input type="hidden" name="reason" value="x">' in html
    assert '<button class="danger">Pause</button>' in html


def test_cards_links_and_empty_lists(render) -> None:
    assert '<a class="card bad" href="/x">' in render('{{ ui.card("Failed", 3, "/x", bad=true) }}')
    assert "<a" not in render('{{ ui.card("Term", 3) }}')
    assert 'href="/executions/a/b/7">b #7</a>' in render('{{ ui.execution_link("namespaces/a/jobs/b/executions/7") }}')
    assert 'href="/jobs/a/b">b</a>' in render('{{ ui.job_link("namespaces/a/jobs/b") }}')
    assert "<strong>Nothing</strong>" in render('{{ ui.empty("Nothing") }}')
    assert "<i>more</i>" in render('{% call ui.empty("Nothing") %}<i>more</i>{% endcall %}')
    assert render('{{ ui.counted(12, "/x", bad=true) }}') == '<a class="count bad" href="/x">12</a>'


def test_data_of_a_chart_cannot_leave_its_block(render) -> None:
    html = render('{{ ui.chart({"x": ["</script><b>"]}, "starts <1>") }}')
    assert "</script><b>" not in html
    assert "\\u003c/script\\u003e" in html
    assert 'role="img" aria-label="starts &lt;1&gt;"' in html
