"""Shows in the API: the list by pages, the report, its CSV and the link to it."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from gateway.channels.stream_key import SignatureUse, SigningSecrets, Verdict, report_name
from gateway.live.sink import EndReason
from tests.support.admin import SECRET, Admin, admin


async def shows(api: Admin, count: int) -> tuple[str, list[str]]:
    """Makes ended shows. Returns the channel, and the ids of its shows, newest first."""
    id, ids = (await api.create(videoname="Concert", isHls=True))["id"], list[str]()
    for _ in range(count):
        publisher = await api.push(id)
        publisher.stream.viewers["hls"] = 2
        await api.shows.measure()
        api.hub.end(id, EndReason.KICKED)
        await api.shows.measure()
        ids.insert(0, (await api.json("GET", f"/videostream/{id}/shows"))[0]["id"])
    return id, ids


async def test_shows_are_listed_by_pages_newest_first(tmp_path: Path) -> None:
    async with admin(tmp_path) as api:
        id, ids = await shows(api, 3)
        path = f"/videostream/{id}/shows"
        listed = await api.json("GET", path)
        assert [one["id"] for one in listed] == ids
        assert {(one["title"], one["peak"], one["url"], one["end"] is None) for one in listed} == {
            ("Concert", 2, None, False)
        }
        assert [one["id"] for one in await api.json("GET", f"{path}?limit=1&before={ids[0]}")] == [ids[1]]
        assert (await api.json("GET", f"{path}?limit=0", status=400))["field"] == "limit"
        await api.json("GET", f"/videostream/{id}/shows/1", status=404)
        await api.json("GET", f"/videostream/{id}/shows/{ids[0]}?format=pdf", status=400)


async def test_a_report_is_json_or_csv(tmp_path: Path) -> None:
    async with admin(tmp_path) as api:
        id, (newest, before) = await shows(api, 2)
        found = await api.json("GET", f"/videostream/{id}/shows/{newest}")
        assert (found["id"], found["before"]["id"]) == (newest, before)
        answer = await api.call("GET", f"/videostream/{id}/shows/{newest}?format=csv")
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert (await answer.text()).startswith(f"name,value\r\nid,{newest}\r\n")


async def test_a_link_covers_one_show_until_the_channel_has_a_new_key(tmp_path: Path) -> None:
    async with admin(tmp_path) as api:
        id, (show, other) = await shows(api, 2)
        shared = await api.json("POST", f"/videostream/{id}/shows/{show}/share", {"days": 2})
        bare = await api.call("POST", f"/videostream/{id}/shows/{show}/share")
        assert bare.status == 200
        address = urlsplit(shared["url"])
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        assert (address.path, query["show"]) == (f"/{id}/report.html", show)
        secrets, key, expires = SigningSecrets(SECRET), (await api.store.get(id)).key, int(query["sign"].split("-")[0])

        def verdict(show: str, key: str, now: float, use: SignatureUse = SignatureUse.REPORT) -> Verdict:
            return secrets.verify(report_name(id, key, show), query["sign"], now, use)

        assert verdict(show, key, expires) is Verdict.VALID
        assert verdict(show, key, expires + 1) is Verdict.EXPIRED
        assert verdict(other, key, expires) is Verdict.WRONG
        assert verdict(show, "9-new", expires) is Verdict.WRONG
        assert secrets.verify_play(id, query["sign"], expires) is Verdict.WRONG
        await api.json("POST", f"/videostream/{id}/shows/{show}/share", {"days": 0}, status=400)
