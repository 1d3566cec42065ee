#!/usr/bin/perl
# The most frequent words of a text: a line each, the number of times and the word.
# The label "top" says how many (default 3).
use strict;
use warnings;

my $top = $ENV{PENSTOCK_TASK_LABEL_TOP} // 3;
my $text = do { local $/; <STDIN> } // '';
if (!utf8::decode($text)) {
    print STDERR "the payload is not UTF-8\n";
    exit 65;    # EX_DATAERR: the same payload would fail again
}
my %times;
$times{lc $_}++ for $text =~ /\w+/g;
my @words = sort { $times{$b} <=> $times{$a} || $a cmp $b } keys %times;
binmode STDOUT, ':utf8';
for my $word (@words) {
    last if $top-- <= 0;
    print "$times{$word}\t$word\n";
}
