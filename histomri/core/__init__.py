"""What every room uses: errors, files, tables, images, options, and the record of how a result came to be."""
