"""Where a store lies: a local disk or an object store."""
