"""Links and anchors as GitHub reads them."""

from docs_site.markdown import anchors, links

PAGE = """# A *page*: what it `holds`

See [there](other.md#place), ![a picture](a.svg) and [![both](b.svg)](b.md), not `[code](c.md)`.

```md
[in a block](d.md)
# no heading
```

## Again
## Again
<a id="mine"></a>text
"""


def test_links_are_those_outside_of_code():
    assert [(one.line, one.target) for one in links(PAGE)] == [
        (3, "other.md#place"),
        (3, "a.svg"),
        (3, "b.md"),
        (3, "b.svg"),
    ]


def test_anchors_are_those_of_headings_and_of_ids():
    assert anchors(PAGE) == {"a-page-what-it-holds", "again", "again-1", "mine"}
