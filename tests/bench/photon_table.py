"""photon_table.py cells.csv: medians over the rounds of each peer and scene, and Wavry's ratio to each peer."""
import collections
import csv
import statistics
import sys

COLUMNS = "peer net scene fps ok miss min p50 p95 p99 max seen age50 age95 freeze psnr psnr_y ssim host viewer down up others"


def median(rows, column):
    values = [float(row[column]) for row in rows if row[column]]
    return statistics.median(values) if values else float("nan")


def main():
    cells = collections.defaultdict(list)
    with open(sys.argv[1]) as f:
        for row in csv.DictReader(f, fieldnames=COLUMNS.split()):
            cells[row["scene"], row["fps"], row["peer"]].append(row)
    print(f"{'scene':<10} {'peer':<12} {'rounds':>6} {'miss':>4} {'p50 ms':>8} {'p99 ms':>8} {'ssim':>7} {'Mbit/s':>7} "
          f"{'host cpu':>8} {'others':>6}   wavry's p50, p99 to this one's")
    for scene, fps, peer in sorted(cells):
        rows, ours = cells[scene, fps, peer], cells.get((scene, fps, "wavry"))
        ratio = ""
        if ours and peer != "wavry":
            ratio = f"{median(ours, 'p50') / median(rows, 'p50'):.2f}  {median(ours, 'p99') / median(rows, 'p99'):.2f}"
        print(f"{scene + ' ' + fps:<10} {peer:<12} {len(rows):>6} {median(rows, 'miss'):>4.0f} {median(rows, 'p50'):>8.2f} "
              f"{median(rows, 'p99'):>8.2f} {median(rows, 'ssim'):>7.4f} {median(rows, 'down'):>7.2f} "
              f"{median(rows, 'host'):>8.1f} {median(rows, 'others'):>5.0f}%   {ratio}")


main()
