"""From policies to the ruleset: overlaps to segments, segments to cells, cells to rules. Pure: no I/O, no clock."""
