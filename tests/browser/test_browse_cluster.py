"""What people do with the cluster: hand leadership over, see what comes, and try out a cron expression."""

from __future__ import annotations

from playwright.sync_api import expect
from reader import Reader
from shop import Shop, eventually


def test_leadership_is_handed_over(reader: Reader, shop: Shop) -> None:
    old, target = shop.leader(), shop.follower()
    page = reader.open("/cluster")
    expect(page.locator("#cluster")).to_contain_text(old)
    page.get_by_label("Hand leadership to").select_option(target)
    page.get_by_role("button", name="Hand over").click()
    page.get_by_role("dialog").get_by_role("button", name="Hand over").click()
    eventually(lambda: shop.client.cluster_status().leader == target, f"{target} leads")
    leads = page.locator("#cluster .cards li").filter(has_text="leader")
    expect(leads).to_contain_text(target)


def test_the_forecast_names_who_causes_a_spike(reader: Reader) -> None:
    page = reader.open("/forecast?namespace=night")
    spikes = page.get_by_role("region", name="Spikes")
    expect(spikes).to_contain_text("12")
    expect(spikes).to_contain_text("report-1")


def test_a_cron_expression_is_tried_out(reader: Reader) -> None:
    page = reader.open("/cron")
    page.get_by_label("Expression").fill("0 2 * * mon-fri")
    expect(page.get_by_role("main")).to_contain_text("02:00")
