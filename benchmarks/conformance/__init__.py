"""What the importer can do, proved on tests and models of other people."""
