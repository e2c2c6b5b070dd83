"""Ten features for where a model must be small: of the caller's own calls, and its kind of number.

Ten that a handset knows by itself (this call, this pair, this callee) do not do: on a world of size `small` such a
model caught nothing even at one innocent call in a thousand, for none of them is of what the caller does. These are
among the strongest of whole models, by gain.
"""

LITE = (
    "out_gap_median_7d", "out_night_calls_share_7d", "out_new_callees_share_24h", "out_hung_up_share_7d",
    "out_answered_share_7d", "out_mutual_callees_share_7d", "out_talk_under_10s_share_7d", "out_callees_share_7d",
    "in_calls_balance_7d", "call_caller_class",
)  # fmt: skip
