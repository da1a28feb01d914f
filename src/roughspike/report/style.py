"""The look of the page: one light theme for the screen and for paper, system fonts only."""

CSS = """
:root { --serif:Charter,"Bitstream Charter","Iowan Old Style",Georgia,"DejaVu Serif",serif;
  --sans:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif;
  --ink:#1c2430; --muted:#5b6675; --rule:#d9dee5; --blue:#0072b2; --warn:#a34700; --ok:#00694d; }
* { box-sizing:border-box; }
html { -webkit-text-size-adjust:100%; background:#fff; }
body { margin:0 auto; max-width:1072px; padding:44px 36px 72px; color:var(--ink); background:#fff;
  font:16px/1.55 var(--sans); }
h1,h2 { font-family:var(--serif); font-weight:600; line-height:1.2; }
h1 { font-size:33px; margin:4px 0 14px; letter-spacing:-.01em; }
h2 { font-size:20px; margin:0 0 10px; }
h3 { font-size:14px; margin:0 0 6px; color:var(--ink); }
p { margin:0 0 10px; max-width:74ch; }
.kicker { font-size:13px; color:var(--muted); margin:0; }
.lead { display:grid; grid-template-columns:max-content 1fr; gap:4px 18px; font-size:17.5px; line-height:1.45;
  max-width:78ch; margin:0 0 12px; }
.lead dt { font-weight:600; color:var(--ink); }
.judged { color:var(--muted); font-size:14.5px; }
.headlines { display:grid; grid-template-columns:repeat(auto-fit,minmax(190px,1fr)); gap:0; margin:26px 0 26px;
  border-top:2px solid var(--ink); border-bottom:1px solid var(--rule); }
.headlines div { padding:14px 18px 14px 0; }
.headlines b { display:block; font:600 34px/1.1 var(--serif);
  font-variant-numeric:lining-nums tabular-nums; }
.headlines span { display:block; font-size:14px; font-weight:600; margin-top:4px; }
.headlines small { display:block; font-size:13px; color:var(--muted); }
.headlines .no small { color:var(--warn); }
.headlines .yes small { color:var(--ok); }
.verdict { display:grid; grid-template-columns:1fr 1fr; gap:10px 36px; }
.verdict ul { margin:0; padding-left:18px; font-size:15px; }
.verdict li { margin-bottom:6px; }
.verdict .fails li::marker { color:var(--warn); }
.verdict .none { font-size:15px; color:var(--muted); }
section { margin-top:40px; break-inside:avoid; }
.pair { display:grid; grid-template-columns:1fr 1fr; gap:0 28px; }
.solo figure { display:grid; grid-template-columns:1fr 1fr; gap:0 28px; align-items:center; }
.solo h2 { grid-column:1 / 3; }
figure { margin:0; break-inside:avoid; }
figcaption { font-size:14px; line-height:1.5; color:#3d4755; margin-top:8px; max-width:100ch; }
svg.fig { display:block; width:100%; height:auto; overflow:visible; }
svg.fig text { font-family:var(--sans); fill:currentColor; }
svg.fig .t { font-size:12px; color:var(--muted); }
svg.fig .l { font-size:12.5px; color:var(--ink); }
svg.fig .n { font-size:13.5px; color:var(--ink); }
svg.fig .b { font-size:13.5px; font-weight:700; color:var(--ink); }
.scroll { overflow-x:auto; } figure .scroll { margin-top:22px; }
table { border-collapse:collapse; font-size:14px; width:100%; font-variant-numeric:lining-nums tabular-nums; }
th { text-align:left; font-weight:600; color:var(--muted); border-bottom:1.5px solid var(--ink); padding:4px 16px 5px 0;
  vertical-align:bottom; }
td { padding:4px 16px 4px 0; border-bottom:1px solid #edf0f4; vertical-align:top; }
.r + :not(.r) { padding-left:4px; }
.r { text-align:right; }
dl { margin:0; }
.rows { columns:2; column-gap:40px; font-size:13.5px; }
.rows div { display:grid; grid-template-columns:11.5em 1fr; gap:0 14px; break-inside:avoid; padding:1.5px 0; }
dt { color:var(--muted); overflow-wrap:anywhere; }
dd { margin:0; overflow-wrap:anywhere; font-variant-numeric:tabular-nums; }
footer { margin-top:44px; padding-top:12px; border-top:1px solid var(--rule); font-size:13px; color:var(--muted); }
@media (max-width:760px) { .rows { columns:1; }
  .pair,.verdict,.solo figure { grid-template-columns:1fr; }
  body { padding:24px 16px; } .pair figure + figure { margin-top:36px; } }
@media print { @page { size:A4; margin:14mm; }
  body { padding:0; max-width:none; font-size:10.5pt; } h1 { font-size:20pt; }
  section { margin-top:22px; } * { -webkit-print-color-adjust:exact; print-color-adjust:exact; } }
"""
