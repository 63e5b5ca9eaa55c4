# The runs of perf/run as a table in markdown: medians over rounds, with the smallest and the largest.
def median: sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
def round_to($digits): . * pow(10; $digits) | round / pow(10; $digits);
def spread($digits): "\(median | round_to($digits)) (\(min | round_to($digits))..\(max | round_to($digits)))";

. as $all
| "# NAT beside the limit, \(.runs[0].bytes)-byte UDP, one core, memif",
  "",
  "\(.date), commit \(.commit). \(.machine). Load at the end: \(.load). \([.runs[].round] | max) rounds, interleaved; median (smallest..largest).",
  "",
  "| flows | device | Mpps | cycles a packet | of the limit | flows opened a second | generator idle | lost | bad |",
  "|---|---|---|---|---|---|---|---|---|",
  (.runs | group_by(.flows)[] | . as $runs
    | group_by(.device)[]
    | . as $own
    # Round by round: both were measured within seconds of each other.
    | [$own[] | . as $run | $runs[] | select(.device == "limit" and .round == $run.round) | $run.mpps / .mpps] as $ratios
    | "| \(.[0].flows) | \(.[0].device) | \([.[].mpps] | spread(2)) | \([.[].cycles] | spread(0)) | "
      + "\($ratios | spread(2)) | \([.[].opened_per_second] | median | round) | "
      + "\([.[].generator_idle] | median * 100 | round) % | \([.[].lost] | add) | \([.[].bad] | add) |"),
  "",
  (if [.runs[] | select(.generator_idle < 0.05)] | length > 0
   then "The generator was busy all the time in \([.runs[] | select(.generator_idle < 0.05)] | length) runs: those say what the generator reaches, not the device."
   else empty end),
  (if ([.runs[].clean_slots] | min) < 0.5
   then "The machine was busy: in some run fewer than half of the slots were undisturbed. Take these figures for an estimate."
   else empty end)
