-- Mutants that no claim is to find, each with its reason: the very same behaviour, or one that nobody is promised anything
-- about. Named by their lines' content, so that a row moves with its line and dies with it. Without `after`, every mutant
-- of that line is meant.
return {
}
