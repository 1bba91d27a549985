/*
 * histomri: show result maps on the slide (QuPath 0.5 or newer).
 *
 * Reads a GeoJSON file of tiles written by histomri (histology patches, or MRI voxels laid on the slide), and adds the
 * tiles to the open image with their values as measurements. Then choose a map under Measure > Show measurement maps,
 * or see all values under Measure > Show detection measurements.
 * Showing the same file again replaces its tiles. Cells and annotations are not touched.
 *
 * Which file: --args FILE on the command line; or 'resultsFile' below; or everything in the project's folder that is
 * called histomri_results/<image>*.geojson (or .geojson.gz), <image> being the image's name without its ending; or else
 * QuPath asks.
 */
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.Paths
import java.util.zip.GZIPInputStream

import qupath.lib.common.GeneralTools
import qupath.lib.io.PathIO
import qupath.lib.objects.PathObjects

import static qupath.lib.gui.scripting.QPEx.*

// ------------------------------------------------ SETTINGS: change the values, not the names ------------------------
def settings = [
    resultsFile   : null,       // for example 'D:/histomri/results/A01_HE.geojson'; null: see above
    skipEmptyTiles: true,       // leave out tiles without any value (background)
    removeOnly    : false,      // true: only remove the tiles that this script added before
]
// ------------------------------------------------ END OF SETTINGS ---------------------------------------------------

showResults(settings)


def showResults(Map settings) {
    requireQuPath('0.5.0')
    def imageData = getCurrentImageData()
    if (imageData == null)
        stop('no image is open: open one and run the script again')
    if (settings.removeOnly) {
        report('removed ' + removeTiles(null) + ' tiles')
        return
    }
    // Everything is read and checked before anything is changed.
    def sets = chooseFiles(settings, imageData).collectEntries { [(setName(it)): readTiles(it, imageData, settings)] }
    sets.each { name, tiles ->
        int former = removeTiles(name)
        tiles.each { it.setName(name) }
        getCurrentHierarchy().addObjects(tiles)
        report('added ' + tiles.size() + ' tiles of "' + name + '"' + (former ? ', in place of ' + former : ''))
    }
    fireHierarchyUpdate()
    def shown = sets.values().flatten().collectMany { it.getMeasurements().keySet() }.unique().sort()
    report('measurements: ' + shown.join(', '))
    report('choose one under Measure > Show measurement maps')
}

/** The calls below are those of QuPath 0.5; an older one would fail in the middle, with cells half replaced. */
void requireQuPath(String least) {
    try {
        checkMinVersion(least)
    } catch (MissingMethodException | UnsupportedOperationException ignored) {
        stop('this script needs QuPath ' + least + ' or newer: this is ' + GeneralTools.getVersion() +
             '. Install a newer QuPath; it opens the projects of older ones')
    }
}

// ------------------------------------------------ the files

List<Path> chooseFiles(Map settings, imageData) {
    def named = firstArgument() ?: settings.resultsFile?.toString()
    def files = named != null ? [Paths.get(named)] : filesOfProject(imageData)
    if (!files && getQuPath() != null) {
        def choosers = Class.forName('qupath.fx.dialogs.FileChoosers', true, this.class.classLoader)
        def chosen = choosers.promptForFile('histomri results', choosers.createExtensionFilter('GeoJSON',
                                             '*.geojson', '*.json', '*.geojson.gz'))
        files = chosen == null ? [] : [chosen.toPath()]
    }
    if (!files)
        stop('no results were given: set resultsFile, or put <image>.geojson into the folder histomri_results')
    files.each { if (!Files.isRegularFile(it)) stop('there is no file ' + it) }
    return files
}

List<Path> filesOfProject(imageData) {
    if (getProject() == null)
        return []
    def folder = getProject().getPath().getParent().resolve('histomri_results').toFile()
    def entry = getProjectEntry()
    def image = entry != null ? entry.getImageName() : imageData.getServer().getMetadata().getName()
    def stem = GeneralTools.stripExtension(image.toString())
    // A01 must not take the results of A010: after the name of the image comes no letter or digit.
    def found = folder.listFiles()?.findAll {
        def file = it.getName()
        file.startsWith(stem) && (file.endsWith('.geojson') || file.endsWith('.geojson.gz')) &&
            file.length() > stem.length() && !Character.isLetterOrDigit(file.charAt(stem.length()))
    }
    return found ? found.sort { it.getName() }*.toPath() : []
}

/** What followed --args on the command line, or null. */
String firstArgument() {
    try {
        def given = binding.getVariable('args')
        return given ? given[0].toString() : null
    } catch (MissingPropertyException ignored) {
        return null     // started from the editor
    }
}

String setName(Path path) {
    return 'histomri: ' + path.getFileName().toString().replaceAll(/(?i)\.(geo)?json(\.gz)?$/, '')
}

// ------------------------------------------------ the tiles

List readTiles(Path path, imageData, Map settings) {
    def objects = readObjects(path).findAll { it.getROI() != null && it.getROI().isArea() }
    if (!objects)
        stop(path.toString() + ' holds no tiles')
    def tiles = objects.collect { tileOf(it) }
    if (settings.skipEmptyTiles)
        tiles = tiles.findAll { !it.getMeasurementList().isEmpty() }
    if (!tiles)
        stop(path.toString() + ' holds no values: all its tiles are background')
    refuseOtherImage(tiles, imageData.getServer(), path)
    return tiles
}

List readObjects(Path path) {
    def stream = Files.newInputStream(path)
    try {
        if (path.toString().toLowerCase().endsWith('.gz'))
            stream = new GZIPInputStream(stream)
        return PathIO.readObjectsFromGeoJSON(stream)
    } catch (IOException | RuntimeException problem) {
        stop(path.toString() + ' cannot be read; is it GeoJSON, and whole? ' + problem.getMessage()?.readLines()?.first())
    } finally {
        stream.close()
    }
}

/** Tiles beside the image were made for another one, or for one that was cropped or turned since. */
void refuseOtherImage(List tiles, server, Path path) {
    int inside = tiles.count {
        double x = it.getROI().getCentroidX()
        double y = it.getROI().getCentroidY()
        x >= 0 && y >= 0 && x <= server.getWidth() && y <= server.getHeight()
    }
    if (inside == 0)
        stop(path.toString() + ' was made for another image: none of its ' + tiles.size() +
             ' tiles lies in this one (' + server.getWidth() + ' x ' + server.getHeight() + ' px)')
    if (2 * inside < tiles.size())
        report('WARNING: only ' + inside + ' of ' + tiles.size() + ' tiles lie in this image. Is it the right one?')
}

/** A new tile in the same place, whatever the object in the file is: the export passes tiles over. */
def tileOf(object) {
    def tile = PathObjects.createTileObject(object.getROI(), object.getPathClass(), null)
    def measurements = tile.getMeasurementList()
    object.getMeasurements().each { name, value ->
        if (value != null && !Double.isNaN(value.doubleValue()))
            measurements.put(friendlyName(name), value.doubleValue())
    }
    measurements.close()
    return tile
}

/**
 * Names as QuPath itself writes them, unit last: "vCS_mri_um" becomes "MRI vCS µm", "vCS" becomes "vCS µm", with the
 * µ that QuPath uses (U+00B5), however this file was saved.
 * A name that is not one of ours stays as it is.
 */
String friendlyName(String name) {
    def um = '\u00b5m'
    def fixed = [vCS: um, aCS: um, sdCS: um, D0I: um + '^2/ms', DEinf: um + '^2/ms', ADC: um + '^2/ms',
                 beta: um + '^2', T2T: 'ms', CDvol: '1/mm^3']
    def units = [um: um, um2: um + '^2', um2_ms: um + '^2/ms', mm2: '1/mm^2', mm3: '1/mm^3', ms: 'ms']
    def ours = 'vCS|aCS|sdCS|skewCS|F|fI|CD|CDvol|D0I|DEinf|beta|T2T|ADC|K'
    def match = name =~ ('(' + ours + ')(_mri|_histo)?(?:_(um2_ms|um2|um|mm2|mm3|ms))?')
    if (!match.matches())
        return name
    def quantity = match.group(1)
    def side = [_mri: 'MRI ', _histo: 'Histology '].get(match.group(2), '')
    def unit = units[match.group(3)] ?: fixed[quantity]
    return side + quantity + (unit ? ' ' + unit : '')
}

/** Remove the tiles of one set, or with null those of all sets; returns how many. */
int removeTiles(String name) {
    def former = getDetectionObjects().findAll {
        def of = it.isTile() ? it.getName() : null
        of != null && (name == null ? of.startsWith('histomri: ') : of == name)
    } as List
    if (former)
        getCurrentHierarchy().removeObjects(former, true)
    return former.size()
}

// ------------------------------------------------ small helpers

void report(String message) {
    println 'histomri: ' + message
}

void stop(String message) {
    throw new IllegalStateException('histomri: ' + message)
}
