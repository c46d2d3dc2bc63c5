"""The playground: one page, without anything from another host."""
