/*
 * histomri: export the cells of the open image for the histomri program (QuPath 0.5 or newer).
 *
 * Writes three files, named after the image (and a fourth for a tissue microarray):
 *   <image>.cells.tsv            one row per cell: position, area, nucleus area, class, at full precision
 *   <image>.annotations.geojson  the annotations, to be used as regions of interest
 *   <image>.cores.geojson        the cores of a tissue microarray with their names, without those that are missing
 *   <image>.histomri.json        pixel size, image, detection settings, number of cells. Written last: if it is there
 *                                and says "complete": true, the export ran to its end
 *
 * The cells are taken from the image as it is now on the screen, saved or not.
 * For a whole project: Run > Run for project. On the command line:
 *   QuPath script -p project.qpproj export_for_histomri.groovy
 */
import java.nio.charset.StandardCharsets
import java.nio.file.AtomicMoveNotSupportedException
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.Paths
import java.nio.file.StandardCopyOption
import java.util.zip.GZIPOutputStream

import org.locationtech.jts.geom.prep.PreparedGeometryFactory
import qupath.lib.color.ColorDeconvolutionStains
import qupath.lib.common.GeneralTools
import qupath.lib.images.servers.ImageServerBuilder
import qupath.lib.io.GsonTools

import static qupath.lib.gui.scripting.QPEx.*

// ------------------------------------------------ SETTINGS: change the values, not the names ------------------------
def settings = [
    outputFolder       : null,      // for example 'D:/histomri/cells'; null: 'histomri_export' in the project's folder.
                                    // On the command line, --args FOLDER does the same
    compress           : false,     // true: write <image>.cells.tsv.gz, about a third of the size
    objects            : 'auto',    // 'cells', 'detections' (nuclei without a cell around them, as StarDist and
                                    // Cellpose make), or 'auto': cells if there are any, else detections
    detectionsAre      : 'nucleus', // what such a detection outlines: 'nucleus' or 'cell'
    // Stain of the nucleus, the first of these measurements that a cell has:
    nucleusDab         : ['Nucleus: DAB OD mean', 'Nucleus: DAB: Mean', 'DAB: Nucleus: Mean'],
    writeImageLocation : true,      // false: leave the folder and file of the slide out of the .json
]
// ------------------------------------------------ END OF SETTINGS ---------------------------------------------------

exportImage(settings)


def exportImage(Map settings) {
    requireQuPath('0.5.0')
    def imageData = requireCalibratedImage()
    def project = getProject()
    boolean masked = project != null && project.getMaskImageNames()
    def location = settings.writeImageLocation && !masked ? imageUri(imageData.getServer()) : null
    def name = imageName(imageData)
    def files = filesFor(name, location, chooseFolder(settings), settings)
    def chosen = chooseObjects(settings)

    // From here on an older export of this image counts as undone: its .json would vouch for files that are changing.
    Files.deleteIfExists(files.sidecar)
    writeWhole(files.cells) { part -> writeCells(part, chosen, imageData.getServer(), settings) }
    Files.deleteIfExists(files.staleCells)
    def annotations = getAnnotationObjects().findAll { it.getROI() != null } as List
    writeWhole(files.annotations) { part ->
        exportObjectsToGeoJson(annotations, part.toString(), 'FEATURE_COLLECTION', 'EXCLUDE_MEASUREMENTS')
    }
    def cores = getTMACoreList() as List
    def present = cores.findAll { !it.isMissing() && it.getROI() != null }
    Files.deleteIfExists(files.cores)
    if (present) {
        writeWhole(files.cores) { part ->
            exportObjectsToGeoJson(present, part.toString(), 'FEATURE_COLLECTION', 'EXCLUDE_MEASUREMENTS')
        }
    }
    def facts = describeImage(imageData, name, location) + describeDetection(imageData) + [
        n_cells         : chosen.size(),
        n_annotations   : annotations.size(),
        cells_file      : fileName(files.cells),
        annotations_file: fileName(files.annotations),
        n_cores         : cores ? present.size() : null,
        n_cores_missing : cores ? cores.size() - present.size() : null,
        cores_file      : present ? fileName(files.cores) : null,
        complete        : true,
    ]
    writeWhole(files.sidecar) { part ->
        Files.write(part, (GsonTools.getInstance(true).toJson(facts) + '\n').getBytes(StandardCharsets.UTF_8))
    }
    report('wrote ' + chosen.size() + ' cells and ' + annotations.size() + ' annotations of ' + name)
    report('  ' + files.cells)
    report('  ' + files.annotations)
    report('  ' + files.sidecar)
}

// ------------------------------------------------ what to export, and where to

/** The calls below are those of QuPath 0.5; an older one would fail in the middle, with cells half replaced. */
void requireQuPath(String least) {
    try {
        checkMinVersion(least)
    } catch (MissingMethodException | UnsupportedOperationException ignored) {
        stop('this script needs QuPath ' + least + ' or newer: this is ' + GeneralTools.getVersion() +
             '. Install a newer QuPath; it opens the projects of older ones')
    }
}

/** The open image. Without a pixel size no area means anything, so that is refused. */
def requireCalibratedImage() {
    def imageData = getCurrentImageData()
    if (imageData == null)
        stop('no image is open: open one and run the script again')
    if (!imageData.getServer().getPixelCalibration().hasPixelSizeMicrons())
        stop('the image has no pixel size in µm: set it in the Image tab (double-click "Pixel width"), ' +
             'detect the cells again, then export')
    return imageData
}

def imageName(imageData) {
    def entry = getProjectEntry()
    return (entry != null ? entry.getImageName() : imageData.getServer().getMetadata().getName()).toString()
}

def imageUri(server) {
    def uris = server.getURIs()
    return uris.isEmpty() ? null : uris.iterator().next().toString()
}

Path chooseFolder(Map settings) {
    def argument = firstArgument()
    Path folder
    if (argument != null)
        folder = Paths.get(argument)
    else if (settings.outputFolder != null)
        folder = Paths.get(settings.outputFolder.toString())
    else if (getProject() != null)
        folder = getProject().getPath().getParent().resolve('histomri_export')
    else
        stop('the image is not part of a project: set outputFolder at the top of the script')
    return Files.createDirectories(folder.toAbsolutePath())
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

/** The paths to write. Two images of the same name must not overwrite each other. */
def filesFor(String name, String location, Path folder, Map settings) {
    def stem = GeneralTools.stripExtension(name).replaceAll(/[\\\/:*?"<>|\p{Cntrl}]/, '_')
    def sidecar = folder.resolve(stem + '.histomri.json')
    if (Files.exists(sidecar)) {
        def former = readSidecar(sidecar)
        boolean other = former.image_name != null && former.image_name != name ||
            former.image_uri != null && location != null && former.image_uri != location
        if (other)
            stop(sidecar.toString() + ' belongs to another image (' + former.image_name +
                 '): rename one of the two in the project, or choose another outputFolder')
    }
    def plain = folder.resolve(stem + '.cells.tsv')
    def zipped = folder.resolve(stem + '.cells.tsv.gz')
    return [cells      : settings.compress ? zipped : plain,
            staleCells : settings.compress ? plain : zipped,
            annotations: folder.resolve(stem + '.annotations.geojson'),
            cores      : folder.resolve(stem + '.cores.geojson'),
            sidecar    : sidecar]
}

def readSidecar(Path path) {
    def text = new String(Files.readAllBytes(path), StandardCharsets.UTF_8)
    try {
        return GsonTools.getInstance().fromJson(text, Map) ?: [:]
    } catch (RuntimeException ignored) {
        return [:]      // damaged: it vouches for nothing, and is replaced
    }
}

/** Cells, or detections that stand for cells. Spots inside a cell and tiles of any kind are neither. */
List chooseObjects(Map settings) {
    if (!(settings.objects in ['auto', 'cells', 'detections']) || !(settings.detectionsAre in ['nucleus', 'cell']))
        stop('the settings "objects" and "detectionsAre" take only the words in their comments')
    def outlined = getDetectionObjects().findAll { !it.isTile() && it.getROI() != null && it.getROI().isArea() }
    def cells = outlined.findAll { it.isCell() } as List
    def others = outlined.findAll { !it.isCell() && !(it.getParent() != null && it.getParent().isCell()) } as List
    boolean takeCells = settings.objects == 'cells' || (settings.objects == 'auto' && cells)
    def chosen = takeCells ? cells : others
    if (!chosen)
        stop('there is nothing to export: no ' + (settings.objects == 'auto' ? 'cells' : settings.objects) +
             ' in this image. Run detect_cells_he.groovy or detect_cells_ki67.groovy first')
    if (takeCells && others)
        report('left out ' + others.size() + ' detection(s) that are not cells')
    return chosen
}

// ------------------------------------------------ the table

void writeCells(Path path, List objects, server, Map settings) {
    def columns = ['object_id', 'object_type', 'classification', 'parent_id', 'x_px', 'y_px',
                   'cell_area_px2', 'nucleus_area_px2', 'cell_area_um2', 'nucleus_area_um2',
                   'nucleus_dab_od_mean', 'touches_parent_edge', 'parent_class', 'tma_core']
    def regions = [:]       // annotation -> its outline, prepared for many questions
    def stream = Files.newOutputStream(path)
    if (settings.compress)
        stream = new GZIPOutputStream(stream, 1 << 16)
    new BufferedWriter(new OutputStreamWriter(stream, StandardCharsets.UTF_8), 1 << 16).withCloseable { writer ->
        writer.write(columns.join('\t') + '\n')
        for (object in objects)
            writer.write(rowOf(object, server, regions, settings).join('\t') + '\n')
    }
}

List<String> rowOf(object, server, Map regions, Map settings) {
    def calibration = server.getPixelCalibration()
    double width = calibration.getPixelWidthMicrons()
    double height = calibration.getPixelHeightMicrons()
    def roi = object.getROI()
    def cell = object.isCell() || settings.detectionsAre == 'cell' ? roi : null
    def nucleus = object.isCell() ? object.getNucleusROI() : (settings.detectionsAre == 'nucleus' ? roi : null)
    def parent = annotationAround(object)
    def core = coreAround(object)
    return [
        object.getID().toString(),
        object.isCell() ? 'cell' : 'detection',
        text(object.getPathClass()),
        parent == null ? '' : parent.getID().toString(),
        number(roi.getCentroidX()),
        number(roi.getCentroidY()),
        cell == null ? '' : number(cell.getArea()),
        nucleus == null ? '' : number(nucleus.getArea()),
        cell == null ? '' : number(cell.getScaledArea(width, height)),
        nucleus == null ? '' : number(nucleus.getScaledArea(width, height)),
        number(firstMeasurement(object, settings.nucleusDab)),
        touchesEdge(roi, parent ?: core, server, regions) ? '1' : '0',
        parent == null ? '' : text(parent.getPathClass()),
        core == null ? '' : text(core.getName()),
    ]
}

def annotationAround(object) {
    def parent = object.getParent()
    while (parent != null && !parent.isAnnotation())
        parent = parent.getParent()
    return parent
}

def coreAround(object) {
    def parent = object.getParent()
    while (parent != null && !parent.isTMACore())
        parent = parent.getParent()
    return parent
}

/**
 * Whether a cell is cut, or could be: it reaches the edge of its annotation, or of the image if it lies in none.
 * QuPath cuts nuclei at that edge, while the cell around them may lie across it.
 */
boolean touchesEdge(roi, parent, server, Map regions) {
    if (parent == null || parent.getROI() == null)
        return roi.getBoundsX() <= 0 || roi.getBoundsY() <= 0 ||
            roi.getBoundsX() + roi.getBoundsWidth() >= server.getWidth() ||
            roi.getBoundsY() + roi.getBoundsHeight() >= server.getHeight()
    def outline = regions.get(parent)
    if (outline == null) {
        outline = PreparedGeometryFactory.prepare(parent.getROI().getGeometry())
        regions.put(parent, outline)
    }
    return !outline.containsProperly(roi.getGeometry())
}

double firstMeasurement(object, List names) {
    def measurements = object.getMeasurementList()
    for (name in names) {
        double value = measurements.get(name.toString())
        if (!Double.isNaN(value))
            return value
    }
    return Double.NaN
}

/** All digits of the number, with a point, whatever the language of the computer; empty if there is none. */
String number(double value) {
    return Double.isNaN(value) || Double.isInfinite(value) ? '' : new BigDecimal(Double.toString(value)).toPlainString()
}

/** Text that cannot break the table. */
String text(value) {
    return value == null ? '' : value.toString().replaceAll(/[\t\r\n"]+/, ' ').trim()
}

// ------------------------------------------------ the facts about the image

def describeImage(imageData, String name, String location) {
    def server = imageData.getServer()
    def calibration = server.getPixelCalibration()
    double magnification = server.getMetadata().getMagnification()
    def stains = imageData.getColorDeconvolutionStains()    // null for a fluorescence image
    return [
        schema         : 'histomri.qupath/1',
        qupath_version : String.valueOf(GeneralTools.getVersion()),
        image_name     : name,
        image_uri      : location,
        width_px       : server.getWidth(),
        height_px      : server.getHeight(),
        pixel_width_um : calibration.getPixelWidthMicrons().doubleValue(),
        pixel_height_um: calibration.getPixelHeightMicrons().doubleValue(),
        magnification  : Double.isNaN(magnification) || Double.isInfinite(magnification) ? null : magnification,
        image_type     : imageData.getImageType().name(),
        stains         : ColorDeconvolutionStains.getColorDeconvolutionStainsAsString(stains, 5) ?: null,
        builder_type   : builderType(server),
        bounds_cropped : boundsCropped(server),
    ]
}

/** "uri" for the slide as it lies on disk; "rotated", "cropped", ... if QuPath shows it changed. */
def builderType(server) {
    def builder = server.getBuilder()
    if (builder == null)
        return null
    def description = GsonTools.getInstance().toJson(builder, ImageServerBuilder.ServerBuilder)
    return GsonTools.getInstance().fromJson(description, Map)?.builderType
}

/** Whether QuPath shows only the scanned part of a larger slide (MRXS and the like), so that the origin is moved. */
def boundsCropped(server) {
    if (!server.getServerType().startsWith('OpenSlide') || !server.metaClass.respondsTo(server, 'dumpMetadata'))
        return builderType(server) == 'uri' ? false : null      // only OpenSlide crops; a turned image does not show it
    def properties = GsonTools.getInstance().fromJson(server.dumpMetadata().toString(), Map) ?: [:]
    def width = properties['openslide.level[0].width']
    def height = properties['openslide.level[0].height']
    if (width == null || height == null)
        return null
    return server.getWidth() != (width as int) || server.getHeight() != (height as int)
}

/** The last cell detection that QuPath, or one of our scripts for its extensions, noted in the history of the image. */
def describeDetection(imageData) {
    def steps = imageData.getHistoryWorkflow().getSteps().findAll { detectorOf(it) != null }
    if (!steps)
        return [detector: null, parameters: [:]]
    def step = steps.last()
    def parameters = step.getParameterMap().collectEntries { key, value -> [(key.toString()): plain(value)] }
    return [detector: detectorOf(step), parameters: parameters]
}

def detectorOf(step) {
    if (step.metaClass.respondsTo(step, 'getPluginClass'))
        return step.getPluginClass()?.endsWith('CellDetection') ? step.getPluginClass() : null
    def name = String.valueOf(step.getName())
    return name.startsWith('histomri: ') ? name.substring('histomri: '.length()) : null
}

/** Numbers and yes/no as such, anything else as plain text. */
def plain(value) {
    def word = String.valueOf(value)
    if (word in ['true', 'false'])
        return Boolean.valueOf(word)
    return word.isNumber() ? Double.valueOf(word) : word
}

// ------------------------------------------------ small helpers

/** Write beside the file and move it into place, so that nobody ever reads half a file. */
void writeWhole(Path path, Closure write) {
    def part = path.resolveSibling('.writing-' + fileName(path))
    try {
        write(part)
        try {
            Files.move(part, path, StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE)
        } catch (AtomicMoveNotSupportedException ignored) {
            Files.move(part, path, StandardCopyOption.REPLACE_EXISTING)     // some network drives
        }
    } finally {
        Files.deleteIfExists(part)
    }
}

String fileName(Path path) {
    return path.getFileName().toString()
}

void report(String message) {
    println 'histomri: ' + message
}

void stop(String message) {
    throw new IllegalStateException('histomri: ' + message)
}
